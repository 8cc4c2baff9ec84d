"""Share of words with the right tag, those without a name included: "O O B-PER" for "O O O" gives 2/3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _TagAccuracy:
    name = "tag_accuracy"
    higher_is_better = True
    needs = "tags"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (right tags, words)"""
        return np.array([_counts(outcome) for outcome in outcomes], np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; 1 where there is no word."""
        return ratio(sums[..., 0], sums[..., 1], empty=1.0)


def _counts(outcome: Outcome) -> tuple[int, int]:
    wanted = outcome.reference.split() if outcome.right_tags is None else outcome.right_tags
    given = (outcome.prediction or "").split() if outcome.tags is None else outcome.tags
    return sum(one == other for one, other in zip(wanted, given, strict=False)), len(wanted)


METRIC = _TagAccuracy()
