"""Gives whole clusters to parts so that every part has its share of the rows, and of every stratum.

Clusters of several rows go first, each to the part that is emptiest of its kind of rows; single rows then fill what is
missing, stratum by stratum, with the rounding error carried over. Where large clusters leave a part out of balance,
clusters are moved as long as that helps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.01
"""Balanced: each stratum within this of its share of a part, and each part within a third of it of its share of the rows."""
MOVES = 400
SHAKES, SHAKEN, FEW = 100, 3, 500
SHARE_WEIGHT = 3.0
DENSE = 5_000_000

Counts = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Items:
    """K clusters in the order in which ties are broken, with what they are made of."""

    cluster: Counts
    """[m] the cluster of each (cluster, stratum) cell, ascending."""
    stratum: Counts
    """[m] its stratum, 0..S-1."""
    rows: Counts
    """[m] how many rows it has, > 0."""
    count: int
    """K."""
    strata: int
    """S."""

    @property
    def sizes(self) -> Counts:
        """[K] rows in each cluster."""
        return np.bincount(self.cluster, self.rows, self.count).astype(self.rows.dtype)


def whole_numbers(total: int, shares: NDArray[np.float64]) -> Counts:
    """[P] `total` divided by the shares with the largest remainders rounded up; at least 1 for each share above 0."""
    exact = total * shares / shares.sum()
    counts: Counts = np.floor(exact + 1e-9).astype(np.int64)
    for part in np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]:
        counts[part] += 1
    for part in np.flatnonzero((shares > 0) & (counts == 0)):
        largest = int(np.argmax(counts))
        if counts[largest] > 1:
            counts[largest] -= 1
            counts[part] = 1
    return counts


def allocate(items: Items, shares: NDArray[np.float64], given: Counts) -> NDArray[np.int8]:
    """[K] the part of each cluster. `given` [K] is the part a cluster must go to, or -1.

    Part 0 takes what the others leave. Deterministic: ties fall to the cluster that comes first.
    """
    board = _Board(items, shares, given)
    board.place_large()
    board.fill_with_singles()
    board.mend()
    board.leave_none_empty()
    return board.part.astype(np.int8)


class _State(NamedTuple):
    imbalance: float
    part: Counts
    have: NDArray[np.float64]


def _imbalance(state: _State) -> float:
    return state.imbalance


class _Board:
    def __init__(self, items: Items, shares: NDArray[np.float64], given: Counts) -> None:
        self.items, self.shares, self.fixed = items, shares / shares.sum(), given >= 0
        self.stratum = items.stratum
        self.part = given.copy()
        self.totals = np.bincount(self.stratum, items.rows, minlength=1)
        self.sizes = items.sizes
        self.targets = whole_numbers(int(self.sizes.sum()), self.shares)
        self.wanted = np.outer(self.shares, self.totals)
        self.have = np.zeros_like(self.wanted)
        for part in range(len(shares)):
            cells = self.part[items.cluster] == part
            self.have[part] = np.bincount(self.stratum[cells], items.rows[cells], len(self.totals))
        begins = np.cumsum(np.bincount(items.cluster, minlength=items.count), dtype=items.rows.dtype)
        self.first = np.concatenate([np.zeros(1, begins.dtype), begins])

    def place_large(self) -> None:
        """Clusters of several rows, the largest first."""
        open_parts = np.flatnonzero(self.shares > 0)
        room = np.maximum(self.wanted, 1e-9)
        several = np.flatnonzero((self.sizes > 1) & (self.part < 0))
        for cluster in several[np.argsort(-self.sizes[several], kind="stable")]:
            cells = slice(self.first[cluster], self.first[cluster + 1])
            stratum, rows, size = self.stratum[cells], self.items.rows[cells], self.sizes[cluster]
            of_kind = ((self.have[:, stratum] + rows) / room[:, stratum]) @ rows / size
            of_all = (self.have.sum(1) + size) / np.maximum(self.targets, 1e-9)
            best = open_parts[np.argmin((of_kind + of_all)[open_parts])]
            self._put(cluster, int(best))

    def fill_with_singles(self) -> None:
        """Clusters of one row: quotas per stratum for each part but the first, which takes the rest."""
        single = np.flatnonzero((self.sizes == 1) & (self.part < 0))
        stratum = self.stratum[self.first[single]]
        order = np.argsort(stratum, kind="stable")
        pool = np.split(single[order], np.cumsum(np.bincount(stratum, minlength=len(self.totals)))[:-1])
        left = np.array([len(members) for members in pool])
        used = np.zeros_like(left)
        kept = np.minimum(left, self.have[0] == 0)
        for turn, part in enumerate(np.flatnonzero(self.shares[1:] > 0) + 1):
            need = int(self.targets[part] - self.have[part].sum())
            quota = np.zeros_like(left)
            for reserved in (kept, kept, 0):
                room = left - used - quota - reserved
                want = self.wanted[part] - self.have[part] if not quota.any() else room
                quota += _quotas(want, room, need - int(quota.sum()), backwards=turn % 2 == 1)
            for at in np.flatnonzero(quota):
                self.part[pool[at][used[at] : used[at] + quota[at]]] = part
            used += quota
            self.have[part] += quota
        rest = single[self.part[single] < 0]
        self.part[rest] = 0
        self.have[0] += np.bincount(self.stratum[self.first[rest]], minlength=len(self.totals))

    def mend(self) -> None:
        """Move clusters while a part is out of balance; stuck, shake a few and try again from there."""
        if self._imbalance() <= TOLERANCE or int((~self.fixed).sum()) * len(self.totals) > DENSE:
            return
        movable = np.flatnonzero(~self.fixed)
        makeup = np.zeros((self.items.count, len(self.totals)))
        np.add.at(makeup, (self.items.cluster, self.stratum), self.items.rows)
        # The last column is the cluster's size: shares of parts are balanced like one more stratum, of all rows.
        makeup = np.column_stack([makeup[movable], self.sizes[movable]])
        open_parts = np.flatnonzero(self.shares > 0)
        best = self._descend(movable, makeup, self._state())
        shakes = np.random.default_rng(len(movable))
        for _ in range(SHAKES if len(movable) <= FEW else 0):
            if best.imbalance <= TOLERANCE:
                break
            for cluster in shakes.choice(movable, min(SHAKEN, len(movable)), replace=False):
                self._take(int(cluster))
                self._put(int(cluster), int(shakes.choice(open_parts)))
            best = self._descend(movable, makeup, min(best, self._state(), key=_imbalance))
        self.part, self.have = best.part, best.have

    def _descend(self, movable: Counts, makeup: NDArray[np.float64], best: _State) -> _State:
        """Move one by one as long as the squared imbalance shrinks; the best state met on the way, or `best`."""
        weight = 1.0 / np.maximum(self.targets, 1)
        for _ in range(MOVES):
            off = np.column_stack([self.have - self.wanted, self.have.sum(1) - self.targets])
            step = self._best_move(movable, makeup, off, weight)
            if step is None:
                break
            for cluster, part in step:
                self._take(cluster)
                self._put(cluster, part)
            best = min(best, self._state(), key=_imbalance)
        return best

    def _state(self) -> _State:
        return _State(self._imbalance(), self.part.copy(), self.have.copy())

    def leave_none_empty(self) -> None:
        """A part with a share gets at least its smallest possible cluster."""
        for part in np.flatnonzero(self.shares > 0):
            if (self.part == part).any():
                continue
            movable = np.flatnonzero(~self.fixed & (np.bincount(self.part, minlength=len(self.shares))[self.part] > 1))
            if len(movable):
                cluster = int(movable[np.argmin(self.sizes[movable])])
                self._take(cluster)
                self._put(cluster, int(part))

    def _put(self, cluster: int, part: int) -> None:
        cells = slice(self.first[cluster], self.first[cluster + 1])
        np.add.at(self.have[part], self.stratum[cells], self.items.rows[cells])
        self.part[cluster] = part

    def _take(self, cluster: int) -> None:
        cells = slice(self.first[cluster], self.first[cluster + 1])
        np.subtract.at(self.have[self.part[cluster]], self.stratum[cells], self.items.rows[cells])

    def _imbalance(self) -> float:
        """The largest deviation of a stratum's share of a part, and of a part's share of the rows, which weighs more."""
        rows = max(1, int(self.sizes.sum()))
        parts = np.flatnonzero(self.targets)
        share_off = float(np.abs(self.have.sum(1) - self.targets).max()) / rows
        # Less than one row off is rounding.
        off = np.clip(np.abs(self.have - self.wanted)[parts] - 1, 0, None) / self.targets[parts, None]
        return max(SHARE_WEIGHT * share_off, float(off.max()))

    def _gains(
        self, makeup: NDArray[np.float64], off: NDArray[np.float64], weight: NDArray[np.float64], source: int, to: int
    ) -> NDArray[np.float64]:
        """[k] change of the squared imbalance, each part's counted in shares of that part, if a cluster moves."""
        square = (makeup**2).sum(1) * (weight[source] ** 2 + weight[to] ** 2)
        slope = makeup @ (off[to] * weight[to] ** 2 - off[source] * weight[source] ** 2)
        return np.asarray(2 * slope + square)

    def _best_move(
        self, movable: Counts, makeup: NDArray[np.float64], off: NDArray[np.float64], weight: NDArray[np.float64]
    ) -> list[tuple[int, int]] | None:
        best, step = -1e-9, None
        open_parts = [int(part) for part in np.flatnonzero(self.shares > 0)]
        for source in open_parts:
            here = np.flatnonzero(self.part[movable] == source)
            if len(here) < 2:
                continue
            for to in open_parts:
                if to == source:
                    continue
                gains = self._gains(makeup[here], off, weight, source, to)
                at = int(np.argmin(gains))
                if gains[at] < best:
                    best, step = float(gains[at]), [(int(movable[here[at]]), to)]
        return step


def _quotas(want: NDArray[np.float64], room: Counts, need: int, *, backwards: bool) -> Counts:
    """[S] whole numbers that add up to `need` where there is room, as near as can be to the shape of `want`."""
    want, room = np.clip(want, 0, None), np.clip(room, 0, None)
    quota = np.zeros(len(want), np.int64)
    if need <= 0 or want.sum() <= 0:
        return quota
    ideal = want * (need / want.sum())
    carry = 0.0
    for at in range(len(want))[:: -1 if backwards else 1]:
        carry += ideal[at]
        quota[at] = min(max(0, int(np.floor(carry + 0.5))), room[at])
        carry -= quota[at]
    return quota
