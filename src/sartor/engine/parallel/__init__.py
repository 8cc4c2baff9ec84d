"""Training on several processes: who takes part, how weights are kept, how batches and checkpoints are shared out."""
