"""Rows become token ids and loss weights, here and nowhere else: chat templates, the supervision proof, packing, batches."""
