"""Metrics that look at all rows at once, such as those of ranks: their statistics hold the rows themselves.

Row i has its own place i among n: (1, x_i, y_i) there and nothing elsewhere; x and y are whole numbers (`order`). A sum with weights w has (w_i, w_i x_i, w_i y_i)
at place i, from which the weighted sample is read again. So a row counted twice is the row present twice, as for every metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sartor.protocols import Outcome


@dataclass(frozen=True, slots=True)
class OfSample:
    """`value` of a weighted sample of pairs; `read` gives the pairs, [n] each."""

    name: str
    read: Callable[[Sequence[Outcome]], tuple[np.ndarray, np.ndarray]]
    value: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    """(w [m], x [m], y [m]) with w above 0"""
    higher_is_better: bool = True
    needs: str = "value"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 3 n]"""
        pairs = self.read(outcomes)
        count = len(outcomes)
        lines = np.zeros((count, count, 3))
        lines[np.arange(count), np.arange(count)] = np.stack([np.ones(count), *pairs], axis=1)
        return lines.reshape(count, 3 * count)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 3 n] -> [...]"""
        each = sums.reshape(-1, sums.shape[-1] // 3, 3)
        found = [self._of(line[line[:, 0] > 1e-9]) for line in each]
        return np.array(found, np.float64).reshape(sums.shape[:-1])

    def _of(self, line: np.ndarray) -> float:
        weight = line[:, 0]
        return self.value(weight, line[:, 1] / weight, line[:, 2] / weight)


def order(values: np.ndarray) -> np.ndarray:
    """[m] int64 place of each value among the different ones: all that ranks depend on, and exact under weights."""
    place: np.ndarray = np.unique(values, return_inverse=True)[1].reshape(-1)
    return place


def ranks(weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[m] mean rank of each value in the sample in which row i stands weight_i times."""
    place = order(values)
    each = np.bincount(place, weights=weight)
    found: np.ndarray = (np.cumsum(each) - each + (each + 1) / 2)[place]
    return found


def correlation(weight: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's r of a weighted sample; 0 where one of both does not vary."""
    total = weight.sum()
    x, y = x - weight @ x / total, y - weight @ y / total
    below = np.sqrt((weight @ x**2) * (weight @ y**2))
    scale = total * max(1e-300, float(np.abs(x).max()) * float(np.abs(y).max()))
    return float(weight @ (x * y) / below) if below > 1e-13 * scale else 0.0
