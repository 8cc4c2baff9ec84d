"""Pearson's correlation of given and right numbers: 1 where they lie on a rising line, 0 where one of both does not vary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._mean import ratio
from sartor.metrics._values import both
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _Pearson:
    name = "pearson"
    higher_is_better = True
    needs = "value"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 6] (1, x, y, x^2, y^2, x y), of numbers in deviations from their means."""
        given, wanted = (_tidy(numbers) for numbers in both(self.name, outcomes))
        return np.stack([np.ones(len(given)), given, wanted, given**2, wanted**2, given * wanted], axis=1).astype(
            np.float64
        )

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 6] -> [...]; not a number of one row alone."""
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        above = n * xy - x * y
        spread = np.maximum(n * xx - x**2, 0) * np.maximum(n * yy - y**2, 0)
        flat = spread <= 1e-20 * np.maximum(1.0, n**4)
        value = ratio(above, np.sqrt(np.where(flat, 0.0, spread)), empty=0.0)
        return np.asarray(np.where(n > 1, np.clip(value, -1, 1), np.nan))


def _tidy(numbers: np.ndarray) -> np.ndarray:
    """In deviations, so that squares of large numbers cancel nothing; a number that never varies is 0."""
    spread = numbers.std() if len(numbers) else 0.0
    if spread <= 1e-12 * max(1.0, float(np.abs(numbers).max(initial=0.0))):
        return np.zeros(len(numbers))
    moved: np.ndarray = (numbers - numbers.mean()) / spread
    return moved


METRIC = _Pearson()
