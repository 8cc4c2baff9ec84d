"""What is kept on disk: the run folder, checkpoints, fingerprints; written so that no fault can leave half of it."""
