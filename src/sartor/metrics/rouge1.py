"""ROUGE-1: mean F1 of single words shared with the reference."""

from __future__ import annotations

from sartor.metrics._rouge import Rouge
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = Rouge("rouge1")
