"""The commonest shape of a metric: the mean over rows of one number per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sartor.protocols import Outcome


def ratio(above: np.ndarray, below: np.ndarray, *, empty: float = np.nan) -> np.ndarray:
    """Elementwise above / below; `empty` where below is zero."""
    values: np.ndarray = np.divide(above, below, out=np.full(np.shape(below), empty), where=below != 0)
    return values


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of `score(outcome)` over rows. Statistics per row: (score, 1)."""

    name: str
    score: Callable[[Outcome], float]
    higher_is_better: bool = True
    needs: str = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2]"""
        return np.array([(self.score(outcome), 1.0) for outcome in outcomes], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number where there is no row."""
        return ratio(sums[..., 0], sums[..., 1])
