"""Uncertainty of a score and of a paired difference: the bootstrap, and the closed forms where rows are right or wrong.

B: resamples, n: rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CELLS = 4_000_000
"""Weights held at once (32 MB), so that memory does not grow with B x n."""
POWER = 0.8


class Interval(NamedTuple):
    """Both bounds, in the unit of the value they belong to."""

    low: float
    high: float


def weights(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Chunks [b, n] of the [B, n] matrix that says how often each resample draws each row; each line adds up to n.

    The same matrix serves every model and metric, which is what makes differences paired.
    """
    random = np.random.default_rng(seed)
    chunk = max(1, CELLS // rows)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = random.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def bca(resampled: np.ndarray, value: float, jackknife: np.ndarray, confidence: float) -> Interval:
    """Bias-corrected and accelerated percentile interval (Efron 1987, equations 2.3 and 6.6).

    `resampled` [B] are the values of the resamples, `jackknife` [n] those with one row left out. Where every resample
    gives the same value the interval has no width.
    """
    finite = resampled[np.isfinite(resampled)]
    if not finite.size or not np.isfinite(value):
        return Interval(np.nan, np.nan)
    if np.ptp(finite) <= 1e-12 * max(1.0, abs(value)):
        return Interval(value, value)
    normal = NormalDist()
    below = (np.count_nonzero(finite < value) + 0.5 * np.count_nonzero(finite == value)) / finite.size
    shift = normal.inv_cdf(float(np.clip(below, 1 / (finite.size + 1), finite.size / (finite.size + 1))))
    spread = np.nanmean(jackknife) - jackknife[np.isfinite(jackknife)]
    scale = float((spread**2).sum()) ** 1.5
    acceleration = float((spread**3).sum()) / (6 * scale) if scale > 0 else 0.0
    bounds = []
    for share in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = shift + normal.inv_cdf(share)
        bounds.append(normal.cdf(shift + z / (1 - acceleration * z)) if acceleration * z < 1 else share)
    low, high = np.quantile(finite, bounds)
    return Interval(float(low), float(high))


def wilson(right: int, rows: int, confidence: float) -> Interval:
    """Interval of a share of `right` out of `rows` (Wilson 1927); 40 of 40 gives 0.91 to 1, not 1 to 1."""
    from scipy.stats import binomtest

    found = binomtest(right, rows).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(found.low), float(found.high))


def bonett_price(gained: int, lost: int, rows: int, confidence: float) -> Interval:
    """Interval of the difference of two paired shares (Bonett and Price 2012); never without width."""
    up, down = (gained + 1) / (rows + 2), (lost + 1) / (rows + 2)
    reach = z(confidence) * paired_error(gained, lost, rows)
    return Interval(max(-1.0, up - down - reach), min(1.0, up - down + reach))


def paired_error(gained: int, lost: int, rows: int) -> float:
    """Standard error of the difference of two paired shares, as `bonett_price` has it."""
    up, down = (gained + 1) / (rows + 2), (lost + 1) / (rows + 2)
    return float(np.sqrt((up + down - (up - down) ** 2) / (rows + 2)))


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided mid-p-value that rows are gained as often as lost (McNemar 1947; mid-p: Fagerland, Lydersen, Laake 2013)."""
    from scipy.stats import binom

    changed = gained + lost
    fewer = min(gained, lost)
    return float(min(1.0, 2 * binom.cdf(fewer, changed, 0.5) - binom.pmf(fewer, changed, 0.5))) if changed else 1.0


def bootstrap_p(resampled: np.ndarray, rows: int) -> float:
    """Two-sided p-value that a difference is zero: twice the smaller share of resamples on either side of it.

    Where not one of the resamples is on the other side, so that their number alone would be told, Student's t with rows - 1
    degrees of freedom at the distance that they are from zero; never more than that share could be.
    """
    from scipy.stats import t

    finite = resampled[np.isfinite(resampled)]
    fewer = min(np.count_nonzero(finite <= 0), np.count_nonzero(finite >= 0))
    share = float(min(1.0, 2 * (fewer + 1) / (finite.size + 1)))
    spread = float(finite.std()) if finite.size else 0.0
    if fewer or rows < 2 or not spread > 1e-12 * abs(float(finite.mean())):
        return share
    error = spread * np.sqrt(rows / (rows - 1))
    return min(share, float(2 * t.sf(abs(float(finite.mean())) / error, rows - 1)))


def standard_error(jackknife: np.ndarray) -> float:
    """Standard error of a value from its leave-one-out values [n] (Tukey 1958)."""
    finite = jackknife[np.isfinite(jackknife)]
    if finite.size < 2:
        return float("nan")
    return float(np.sqrt((finite.size - 1) * finite.var()))


def share_error(right: float, rows: int) -> float:
    """Standard error of a share, with two rows right and two wrong added so that 0 of n is not certainty (Agresti and Coull 1998)."""
    share = (right + 2) / (rows + 4)
    return float(np.sqrt(share * (1 - share) / (rows + 4)))


def detectable(error: float, confidence: float) -> float:
    """Smallest true difference that would be seen in four of five tests of this size.

    The spread of the paired differences is not known before the second model is measured; it is taken to be that of the
    first model's own scores, which is exact when the two correlate by one half from row to row.
    """
    return (z(confidence) + NormalDist().inv_cdf(POWER)) * error


def needed(gap: float, deviation: float, confidence: float) -> int:
    """Rows from which a true mean that lies `gap` from the one to beat is seen in four of five tests.

    n = ((z + z of the power) * deviation / gap) squared, where `deviation` is the standard deviation of one row; the inverse
    of `detectable`. For a win rate of 0.6 against 0.5 with one rating a row and no ties: gap 0.1, deviation sqrt(0.24).
    """
    return math.ceil(((z(confidence) + NormalDist().inv_cdf(POWER)) * deviation / gap) ** 2)


def half_ties(wins: int, losses: int, rows: int, confidence: float) -> Interval:
    """Interval of a win rate over rows that are each won, lost or tied, where a tie is half a win.

    The rate is one half plus half the difference of the shares that are won and lost, which are paired: `bonett_price`.
    """
    found = bonett_price(wins, losses, rows, confidence)
    return Interval(0.5 + found.low / 2, 0.5 + found.high / 2)


def z(confidence: float) -> float:
    """How many standard errors a two-sided interval reaches: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
