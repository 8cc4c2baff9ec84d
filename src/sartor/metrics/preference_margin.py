"""By how much the model finds better answers better: nats of log-probability, or reward; verdicts count with their sign."""

from __future__ import annotations

from sartor.metrics._pairs import OverPairs, apart, totals
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = OverPairs("preference_margin", totals, apart, verdicts=True)
