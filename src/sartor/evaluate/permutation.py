"""Whether two models differ, by exchanging their answers row by row: under no difference every exchange is as likely as what was seen.

    p = (1 + #{exchanges with |d*| >= |d|}) / (1 + exchanges)

The statistics of a metric add up over rows, so an exchange is a sum, and the test serves every metric, means or not. With few
rows all 2^n exchanges are made, and p is the exact share of them. Fisher 1935; Noreen 1989, "Computer-Intensive Methods for
Testing Hypotheses", as approximate randomisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from sartor.evaluate.intervals import CELLS

Combine = Callable[[np.ndarray], np.ndarray]
CLOSE = 1e-9
"""Differences this close, relative, are the same."""


def permutation_p(ours: np.ndarray, theirs: np.ndarray, combine: Combine, *, exchanges: int, seed: int) -> float:
    """Two-sided p-value that two models are equally good.

    `ours` and `theirs` [n, k] are the statistics of each row, `combine` makes [..., k] sums into values. Not-a-number where
    the difference is not finite.
    """
    totals = ours.sum(axis=0), theirs.sum(axis=0)
    seen = abs(float(combine(totals[0]) - combine(totals[1])))
    if not np.isfinite(seen):
        return float("nan")
    apart = np.flatnonzero((ours != theirs).any(axis=1))
    change = theirs[apart] - ours[apart]
    exact = 2 ** len(apart) <= exchanges
    extreme = count = 0
    for swapped in _every(len(apart)) if exact else _drawn(len(apart), exchanges, seed):
        moved = swapped @ change
        differences = np.abs(combine(totals[0] + moved) - combine(totals[1] - moved))
        extreme += int(np.count_nonzero(differences >= seen - CLOSE * max(1.0, seen)))
        count += len(swapped)
    return extreme / count if exact else (extreme + 1) / (count + 1)


def _every(rows: int) -> Iterator[np.ndarray]:
    numbers = np.arange(2**rows)[:, None]
    yield ((numbers >> np.arange(rows)) & 1).astype(np.float64)


def _drawn(rows: int, exchanges: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng([seed, 11])
    chunk = max(1, CELLS // max(1, rows))
    for start in range(0, exchanges, chunk):
        yield random.integers(0, 2, size=(min(chunk, exchanges - start), rows)).astype(np.float64)
