"""Small compiled kernels for training on a CPU: built on first use, optional, and equal to plain PyTorch within rounding."""
