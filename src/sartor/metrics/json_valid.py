"""Share of answers that are JSON and nothing else, of the reference's kind: {"a": 1} counts 1, "Sure! {...}" counts 0."""

from __future__ import annotations

from sartor.metrics._answers import right, text
from sartor.metrics._json import INVALID, parse
from sartor.metrics._mean import Mean
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


def _score(outcome: Outcome) -> float:
    answer = parse(text(outcome))
    if answer is INVALID:
        return 0.0
    wanted = parse(right(outcome))
    return float(not isinstance(wanted, dict | list) or type(answer) is type(wanted))


METRIC = Mean("json_valid", _score)
