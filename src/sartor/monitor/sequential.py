"""Intervals that hold at every moment at once, so that anybody may look as often as they like and stop when they like.

Shares and scores in [0, 1]: the mixture sequential probability ratio test, turned into a confidence sequence. With s the sum of n
observations and B the beta function,

    M_n(p) = B(a + s, a + n - s) / B(a, a) / (p^s (1 - p)^(n - s)),   a = 1/2,   interval: all p with M_n(p) < 1/alpha

If every observation lies in [0, 1] and has mean p given those before it, E exp(l x) <= 1 - p + p e^l makes M_n(p) a supermartingale that
starts at 1, so it ever reaches 1/alpha with probability alpha at most (Ville): exact at every n, for any distribution in [0, 1].
Robbins 1970; Howard, Ramdas, McAuliffe, Sekhon 2021, arXiv 1810.08240 (beta-binomial mixture); as an A/B test: Johari, Koomen,
Pekelis, Walsh, arXiv 1512.04922. An observation far from 0 and 1 is treated as if it were a coin, which makes the interval wide, not wrong.

Times have no bound: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv 2103.06476, theorem 2.2,

    mean +- sd sqrt( 2 (n r^2 + 1) / (n^2 r^2)  log( sqrt(n r^2 + 1) / alpha ) )

which holds as the first look moves away from the beginning; before `FIRST` observations nothing is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HALF = 0.5
"""Of the beta mixture: Jeffreys' prior, which is never far from the best one."""
FIRST = 100
"""Observations before an asymptotic interval is told."""
TIGHTEST = 1000
"""Observations at which the asymptotic interval is tightest."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What a sequence of observations adds up to."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, value: float) -> Sums:
        """With one more observation."""
        return Sums(self.n + 1, self.total + value, self.squares + value * value)

    @property
    def mean(self) -> float | None:
        """None of none."""
        return self.total / self.n if self.n else None


def log_evidence(sums: Sums, mean: float) -> float:
    """log M_n(mean) of observations in [0, 1]: how much they speak against this mean."""
    rest = sums.n - sums.total
    mixture = _log_beta(HALF + sums.total, HALF + rest) - _log_beta(HALF, HALF)
    return mixture - _times_log(sums.total, mean) - _times_log(rest, 1 - mean)


def share_interval(sums: Sums, alpha: float) -> tuple[float, float]:
    """(low, high) of the mean of observations in [0, 1]."""
    mean = sums.mean
    if mean is None:
        return 0.0, 1.0
    bound = -math.log(alpha)
    return _edge(sums, mean, 0.0, bound), _edge(sums, mean, 1.0, bound)


def time_interval(sums: Sums, alpha: float) -> tuple[float, float]:
    """(low, high) of the mean of observations without bounds; all numbers before there are enough."""
    if sums.n < FIRST or sums.mean is None:
        return -math.inf, math.inf
    variance = max(0.0, (sums.squares - sums.n * sums.mean**2) / (sums.n - 1))
    tightest = -2 * math.log(alpha)
    ratio = (tightest + math.log(tightest + 1)) / TIGHTEST
    scaled = sums.n * ratio + 1
    width = math.sqrt(variance * 2 * scaled / (sums.n**2 * ratio) * math.log(math.sqrt(scaled) / alpha))
    return sums.mean - width, sums.mean + width


def _edge(sums: Sums, inside: float, outside: float, bound: float) -> float:
    """Where the evidence, convex in the mean, crosses the bound between two means."""
    if log_evidence(sums, outside) < bound:
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if log_evidence(sums, middle) < bound:
            inside = middle
        else:
            outside = middle
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(weight: float, value: float) -> float:
    """weight log(value), and 0 log(0) = 0."""
    if weight <= 1e-12:
        return 0.0
    return weight * math.log(value) if value > 0 else -math.inf
