"""Prediction-powered inference: a mean of people's scores from few scores by people and many by a judge.

    theta = mean over people's rows of Y + lambda (mean over the other rows of f - mean over people's rows of f)

Y: what people say, f: what the judge says. Unbiased for every lambda where the rows that people scored are a random part of all,
however poor the judge is. lambda = 1 is Angelopoulos et al. 2023 (arXiv 2301.09633, section 2), lambda = 0 is people alone;

    lambda = cov(Y, f) / ((1 + n / N) var(f))

has the smallest variance (PPI++, arXiv 2311.01453, section 6; n: rows of people, N: the others). It is bounded to 0 to 1: a judge
without worth is not used. Everything is a function of sums over rows, so the bootstrap of all other metrics serves here too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sartor.evaluate.intervals import z

Floats = NDArray[np.float64]
WIDTH = 8
"""Statistics per row."""


class Powered(NamedTuple):
    """A mean of people's scores with its interval, and what it is made from."""

    value: float
    low: float
    high: float
    weight: float
    """lambda: how much the judge counts."""
    people: int
    """Rows that people scored."""
    others: int
    """Rows that the judge alone scored."""


def units(judge: Floats, people: Floats) -> Floats:
    """[n, WIDTH] statistics of n rows. NaN where one of them said nothing; rows without the judge count nothing."""
    told = np.isfinite(judge)
    both, alone = told & np.isfinite(people), told & ~np.isfinite(people)
    f, y = np.where(told, judge, 0.0), np.where(both, people, 0.0)
    columns = [alone, alone * f, alone * f * f, both, both * f, both * f * f, y, y * f]
    return np.stack(columns, axis=-1).astype(np.float64)


def estimate(sums: Floats) -> Floats:
    """[..., WIDTH] sums of `units` -> [...] theta with the lambda of smallest variance; NaN where people scored no row."""
    f_alone, f_both, y = _means(sums)
    found: Floats = np.where(sums[..., 3] > 0, y + weight(sums) * (f_alone - f_both), np.nan)
    return found


def weight(sums: Floats) -> Floats:
    """[..., WIDTH] -> [...] lambda; 0 where nothing speaks for the judge, or where people scored every row."""
    others, people = sums[..., 0], sums[..., 3]
    rows = others + people
    _, f_both, y = _means(sums)
    mean = _over(sums[..., 1] + sums[..., 4], rows)
    spread = _over(sums[..., 2] + sums[..., 5], rows) - mean**2
    together = _over(sums[..., 7], people) - f_both * y
    # Shares of n become those of n - 1 for the covariance, of n + N - 1 for the variance.
    together, spread = _over(together * people, people - 1), _over(spread * rows, rows - 1)
    usable = (others > 0) & (people > 1) & (spread > 1e-12)
    found = _over(together, (1 + _over(people, others)) * spread)
    clipped: Floats = np.where(usable, np.clip(found, 0.0, 1.0), 0.0)
    return clipped


def interval(judge: Floats, people: Floats, confidence: float, *, fixed: float | None = None) -> Powered:
    """theta of rows [n] with its normal interval (PPI++, theorem 1); `fixed` is a lambda of one's own, 1 for plain PPI."""
    told = np.isfinite(judge)
    both, alone = told & np.isfinite(people), told & ~np.isfinite(people)
    f, y, other = judge[both], people[both], judge[alone]
    scale = float(weight(units(judge, people).sum(axis=0))) if fixed is None else fixed
    scale = scale if len(other) else 0.0
    if not len(y):
        return Powered(np.nan, np.nan, np.nan, scale, 0, len(other))
    rest = y - scale * f
    value = float(rest.mean() + (scale * other.mean() if len(other) else 0.0))
    if len(y) < 2:
        return Powered(value, np.nan, np.nan, scale, len(y), len(other))
    error = rest.var(ddof=1) / len(y)
    if len(other) > 1:
        error += scale**2 * other.var(ddof=1) / len(other)
    reach = z(confidence) * float(np.sqrt(error))
    return Powered(value, value - reach, value + reach, scale, len(y), len(other))


def _means(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Of f where the judge is alone (0 where it never is), of f and of Y where people are."""
    alone = np.where(sums[..., 0] > 0, _over(sums[..., 1], sums[..., 0]), _over(sums[..., 4], sums[..., 3]))
    return alone, _over(sums[..., 4], sums[..., 3]), _over(sums[..., 6], sums[..., 3])


def _over(top: Floats, bottom: Floats) -> Floats:
    """The quotient; 0 where the bottom is 0."""
    shape = np.broadcast_shapes(np.shape(top), np.shape(bottom))
    found: Floats = np.divide(top, bottom, out=np.zeros(shape), where=np.asarray(bottom) != 0)
    return found
