"""Share of pairs whose better answer is the likelier one per token, so that length alone counts nothing."""

from __future__ import annotations

from sartor.metrics._pairs import OverPairs, per_token, right
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = OverPairs("preference_accuracy_per_token", per_token, right)
