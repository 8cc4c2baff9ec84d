"""Spearman's correlation of the ranks of given and right numbers: 1 where both rise together; equal numbers share their rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._sample import OfSample, correlation, order, ranks
from sartor.metrics._values import both
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


def _value(weight: np.ndarray, given: np.ndarray, wanted: np.ndarray) -> float:
    if weight.sum() <= 1:
        return float("nan")
    return correlation(weight, ranks(weight, given), ranks(weight, wanted))


def _read(outcomes: Sequence[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    given, wanted = both("spearman", outcomes)
    return order(given), order(wanted)


METRIC = OfSample("spearman", _read, _value)
