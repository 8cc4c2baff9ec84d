"""Root of the mean squared difference to the right number: 3 and 5 for 4 and 4 give 1. An answer without a number counts as
the mean of the right ones, as if nothing were known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._mean import ratio
from sartor.metrics._values import both
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _Rmse:
    name = "rmse"
    higher_is_better = False
    needs = "value"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (square of the difference, 1)"""
        given, wanted = both(self.name, outcomes)
        return np.stack([(given - wanted) ** 2, np.ones(len(given))], axis=1)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]"""
        return np.asarray(np.sqrt(ratio(sums[..., 0], sums[..., 1])))


METRIC = _Rmse()
