"""Sartor fits language models to measure: a file of examples in, a model that is proven better out."""

from __future__ import annotations

__version__ = "0.1.0"
