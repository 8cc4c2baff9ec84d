"""How scores are written for people; the rules are those of the metrics."""

from __future__ import annotations

from sartor.metrics._numbers import MISSING, difference_text, range_text, score_text

__all__ = ["MISSING", "difference_text", "range_text", "score_text"]
