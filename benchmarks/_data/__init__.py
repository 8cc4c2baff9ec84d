"""Contenders of benchmarks/data.py."""
