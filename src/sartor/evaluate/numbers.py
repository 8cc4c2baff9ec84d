"""How scores are written for people; the rules are those of the metrics."""

from __future__ import annotations

import math

from sartor.metrics._numbers import MISSING, difference_text, range_text, score_text

__all__ = ["MISSING", "difference_text", "more_rows", "range_text", "score_text"]


def more_rows(count: int) -> str:
    """A number of rows with the two digits that an estimate deserves, rounded up: 1234 as "1,300"."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{math.ceil(count / step) * step:,}"
