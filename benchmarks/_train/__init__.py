"""The parts of `benchmarks/train.py`: what everyone is given, what is measured, and one file per contender."""
