"""Share of answers equal to the reference, surrounding space aside: " Paris\\n" for "Paris" counts 1, "paris" counts 0."""

from __future__ import annotations

from sartor.metrics._answers import right, text
from sartor.metrics._mean import Mean
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = Mean("exact_match", lambda outcome: float(text(outcome) == right(outcome)))
