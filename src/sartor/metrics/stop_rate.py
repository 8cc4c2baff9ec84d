"""Share of answers that the model ended by itself instead of running into max_new_tokens."""

from __future__ import annotations

from sartor.metrics._mean import Mean
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = Mean("stop_rate", lambda outcome: float(outcome.stopped))
