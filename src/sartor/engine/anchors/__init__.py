"""What holds weights near where training began: which of them matter, and how much."""
