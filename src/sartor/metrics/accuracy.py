"""Share of rows with the right label: prediction "refund" for reference "refund" counts 1, "Refunds" counts 0."""

from __future__ import annotations

from sartor.metrics._answers import choice, right
from sartor.metrics._mean import Mean
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = Mean("accuracy", lambda outcome: float(choice(outcome) == right(outcome)), needs="label")
