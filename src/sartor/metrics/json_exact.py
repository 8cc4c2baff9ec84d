"""Share of answers equal to the reference as JSON: the order of keys and the spacing do not matter, everything else does."""

from __future__ import annotations

from sartor.metrics._answers import right, text
from sartor.metrics._json import INVALID, canonical, parse
from sartor.metrics._mean import Mean
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


def _score(outcome: Outcome) -> float:
    answer, wanted = parse(text(outcome)), parse(right(outcome))
    if answer is INVALID or wanted is INVALID:
        return float(text(outcome) == right(outcome))
    return float(canonical(answer) == canonical(wanted))


METRIC = Mean("json_exact", _score)
