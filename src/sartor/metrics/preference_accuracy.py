"""Share of pairs whose better answer the model finds better: by log-probability, or by the reward of a reward model."""

from __future__ import annotations

from sartor.metrics._pairs import OverPairs, right, totals
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = OverPairs("preference_accuracy", totals, right)
