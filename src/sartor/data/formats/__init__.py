"""Each file understands one shape of record and turns it into a `Row`; where the record was stored is none of its business."""
