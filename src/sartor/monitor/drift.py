"""Whether a stream of values still comes from where it came from: an alarm that is false with a stated probability, over the whole life.

Each value is ranked among all values before it, reference and stream (ties by a coin): the conformal p-value

    p_n = (#{i < n: x_i more extreme than x_n} + u_n (1 + #{i < n: x_i as extreme as x_n})) / n,   u_n uniform

If the values are exchangeable, p_1, p_2, ... are independent and uniform, whatever their distribution and however small the
reference (Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005, theorem 8.1). Against that we bet: for each of
`SETS`, of size q, that the next p lies in it with the share seen so far (Beta prior of mean q), so a bet's capital is a martingale

    M_n = prod  s/q  if p in the set,  (1 - s) / (1 - q)  otherwise,   s = (hits + q) / (n + 1)

A change may come late, so new bets begin all the time, the j-th with 1 / (j (j + 1)) of the money, which adds up to 1. The sum of all
capital, averaged over the sets, ever reaches k / alpha with probability alpha / k at most (Ville's inequality); with k features any alarm at
all on a stable stream has probability alpha at most. Restarts: Shin, Ramdas, Rinaldo, E-detectors, arXiv 2203.03532; betting on p-values:
Vovk, Nouretdinov, Gammerman, Testing exchangeability on-line, ICML 2003. Money may be thrown away at any time, so of many running bets the
poorest are ended. After `EPOCH` values the ranks begin anew with the reference alone, and the money that is left for later bets goes on.
One-sided features bet upwards alone: s is q at least, and better values cost no alarm.

Assumed: requests are exchangeable, so a day and a night, or one user asking the same a hundred times, are changes to it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Side = Literal["more", "less", "both", "category"]
"""Which change is told: larger or smaller values, any change of a number, any change of shares."""
Level = int | str
"""A value on a grid that does not depend on the data."""

SETS: tuple[tuple[float, float], ...] = (
    *((0.0, 0.01), (0.0, 0.05), (0.0, 0.25), (0.0, 0.5)),
    *((0.75, 1.0), (0.95, 1.0), (0.99, 1.0), (0.25, 0.75), (0.05, 0.95)),
)
"""[low, high) of the p-values that are bet on; one-sided features bet on the first `UPWARD`."""
UPWARD = 4
EVERY = 20
"""Values after which a new bet begins."""
RUNNING = 48
"""Bets that run at the same time; the newest half is never ended."""
WARM = 100
"""Values before the first bet, where there is no reference."""
EPOCH = 50_000


@dataclass(slots=True)
class Detector:
    """The test of one feature."""

    name: str
    side: Side
    bag: Counter[Level] = field(default_factory=Counter)
    """Level -> values of the reference and of this epoch."""
    reference: Counter[Level] = field(default_factory=Counter)
    """Level -> values before the first bet."""
    total: float = 0.0
    """Sum of the reference's values."""
    n: int = 0
    """Values of the stream that were bet on."""
    begun: int = 0
    """Bets so far; the j-th begins with 1 / (j (j + 1))."""
    begins: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """[s] value at which each running bet began."""
    capital: np.ndarray = field(default_factory=lambda: np.zeros((0, len(SETS))))
    """[s, b] logarithm of the capital, with the share of the money."""
    hits: np.ndarray = field(default_factory=lambda: np.zeros((0, len(SETS))))
    """[s, b] p-values in each set since each bet began."""

    def learn(self, level: Level, value: float) -> None:
        """Take a value of the reference."""
        self.bag[level] += 1
        self.reference[level] += 1
        self.total += value

    @property
    def warm(self) -> bool:
        """Whether there is something to compare with."""
        return self.n > 0 or self.reference.total() >= WARM

    def take(self, levels: Sequence[Level], threshold: float) -> int | None:
        """Bet on values; the place of the first at which the logarithm of all capital reaches the threshold."""
        crossed = None
        place = 0
        while place < len(levels):
            if self.n and self.n % EPOCH == 0:
                self._begin_epoch()
            if self.n % EVERY == 0:
                self._begin_bet()
            part = levels[place : place + EVERY - self.n % EVERY]
            evidence = self._bet(np.array([self.p_value(level, at) for at, level in enumerate(part)]))
            over = np.flatnonzero(evidence >= threshold)
            if crossed is None and len(over):
                crossed = place + int(over[0])
            place += len(part)
        return crossed

    def p_value(self, level: Level, ahead: int = 0) -> float:
        """The rank of the next value among all before it, from 0 (extreme) to 1; it then belongs to them."""
        bag = self.bag
        bag[level] += 1
        count = bag[level]
        equal = count
        if self.side == "category":
            extreme = sum(other for other in bag.values() if other < count)
            equal = sum(other for other in bag.values() if other == count)
        else:
            sign = -1 if self.side == "less" else 1
            extreme = sum(other for key, other in bag.items() if sign * float(key) > sign * float(level))
        return (extreme + _coin(self.name, self.n + ahead) * equal) / bag.total()

    @property
    def evidence(self) -> float:
        """Logarithm of all capital now."""
        return _log_sum(self.capital.ravel()) if len(self.begins) else -math.inf

    @property
    def since(self) -> int:
        """The value at which the richest bet began: about when the stream changed."""
        return int(self.begins[np.argmax(self.capital.max(1))]) if len(self.begins) else 0

    def json(self) -> dict[str, Any]:
        """All of it, to go on from."""
        return {
            **{name: getattr(self, name) for name in ("name", "side", "total", "n", "begun")},
            "bag": list(map(list, self.bag.items())),
            "reference": list(map(list, self.reference.items())),
            **{name: getattr(self, name).tolist() for name in ("begins", "capital", "hits")},
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Detector:
        """As `json` gave it."""
        detector = cls(body["name"], body["side"], total=body["total"], n=body["n"], begun=body["begun"])
        for level, count in body["bag"]:
            detector.bag[level] = count
        for level, count in body["reference"]:
            detector.reference[level] = count
        detector.begins = np.array(body["begins"], np.int64)
        detector.capital = np.array(body["capital"], float).reshape(-1, len(SETS))
        detector.hits = np.array(body["hits"], float).reshape(-1, len(SETS))
        return detector

    def _bet(self, p: np.ndarray) -> np.ndarray:
        """[l] logarithm of all capital after each p-value [l]; none of them begins a bet. Axes: bet s, value l, set b."""
        low, high = np.array(SETS).T
        size = high - low
        inside = (p[:, None] >= low) & (p[:, None] < high)
        before = np.cumsum(inside, 0) - inside
        seen = (self.n - self.begins)[:, None] + np.arange(len(p))
        share = (self.hits[:, None] + before + size) / (seen[..., None] + 1)
        if self.side in ("more", "less"):
            share = np.maximum(share, size)
        gain = np.log(np.where(inside, share / size, (1 - share) / (1 - size)))
        running = self.capital[:, None] + np.cumsum(gain, 1)
        self.capital = running[:, -1]
        self.hits = self.hits + inside.sum(0)
        self.n += len(p)
        return np.array([_log_sum(running[:, at].ravel()) for at in range(len(p))])

    def _begin_bet(self) -> None:
        self.begun += 1
        if len(self.begins) == RUNNING:
            old = self.capital[: RUNNING // 2].max(1)
            kept = np.delete(np.arange(RUNNING), np.argmin(old))
            self.begins, self.capital, self.hits = self.begins[kept], self.capital[kept], self.hits[kept]
        money = np.full((1, len(SETS)), -math.log(self.begun * (self.begun + 1)))
        sets = UPWARD if self.side in ("more", "less") else len(SETS)
        money -= math.log(sets)
        money[:, sets:] = -math.inf
        self.begins = np.append(self.begins, self.n)
        self.capital = np.vstack([self.capital, money])
        self.hits = np.vstack([self.hits, np.zeros((1, len(SETS)))])

    def _begin_epoch(self) -> None:
        self.bag = self.reference.copy()
        self.begins, self.capital, self.hits = self.begins[:0], self.capital[:0], self.hits[:0]


def threshold(alpha: float, features: int) -> float:
    """The logarithm of the capital at which one of several features raises its alarm."""
    return math.log(features / alpha)


def _log_sum(values: np.ndarray) -> float:
    top = float(values.max())
    return top if math.isinf(top) else top + math.log(float(np.exp(values - top).sum()))


def _coin(name: str, n: int) -> float:
    """Uniform in (0, 1), the same for the same value of the same stream."""
    digest = hashlib.blake2b(f"{name}:{n}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 0.5) / 2**64
