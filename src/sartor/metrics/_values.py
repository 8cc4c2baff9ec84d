"""What counts as the number of an answer: 3.8 at a head, or the first number that a text says ("about 3.8 of 5" says 3.8)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from sartor.errors import InputError, Problem
from sartor.metrics._answers import right, text
from sartor.protocols import Outcome

_NUMBER = re.compile(r"[-+−]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")


def said(outcome: Outcome) -> float | None:
    """The number of an answer; None where it says none."""
    if outcome.value is not None:
        return outcome.value
    found = _NUMBER.search(text(outcome))
    value = float(found[0].replace("−", "-")) if found else math.nan
    return value if math.isfinite(value) else None


def both(name: str, outcomes: Sequence[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    """([n] given, [n] right) numbers. An answer that says no number counts as the mean of the right ones.

    Raises InputError E104 where a reference is no number.
    """
    wanted = np.empty(len(outcomes))
    for place, outcome in enumerate(outcomes):
        try:
            wanted[place] = float(right(outcome))
        except ValueError:
            what = f"{name} needs numbers, but the reference of row {outcome.id} is {right(outcome)[:40]!r}"
            raise InputError(Problem("E104", what, fix="use exact_match or token_f1 for text")) from None
    mean = float(wanted.mean()) if len(wanted) else 0.0
    given = [said(outcome) for outcome in outcomes]
    return np.array([mean if value is None else value for value in given], np.float64), wanted
