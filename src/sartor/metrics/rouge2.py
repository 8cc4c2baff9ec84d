"""ROUGE-2: mean F1 of pairs of neighbouring words shared with the reference."""

from __future__ import annotations

from sartor.metrics._rouge import Rouge
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = Rouge("rouge2")
