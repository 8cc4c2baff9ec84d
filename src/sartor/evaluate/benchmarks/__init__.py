"""Further rows that models are measured on, beside the test rows of the run."""
