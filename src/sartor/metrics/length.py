"""How far answers are from the reference's length: characters too many or too few, as a share of the reference's; 0 is best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._answers import right, text
from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _Length:
    name = "length"
    higher_is_better = False
    needs = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (characters off, characters of the reference, at least one)"""
        pairs = [(len(text(outcome)), len(right(outcome))) for outcome in outcomes]
        return np.array([(abs(guess - truth), max(truth, 1)) for guess, truth in pairs], dtype=np.float64).reshape(
            -1, 2
        )

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]"""
        return ratio(sums[..., 0], sums[..., 1])


METRIC = _Length()
