"""Each file reads one kind of file into records with their line numbers; what the records mean is none of its business."""
