"""By how many nats per token better answers are likelier, so that length alone counts nothing; verdicts count with their sign."""

from __future__ import annotations

from sartor.metrics._pairs import OverPairs, apart, per_token
from sartor.options import NoOptions as Options

__all__ = ["METRIC", "Options"]

METRIC = OverPairs("preference_margin_per_token", per_token, apart, verdicts=True)
