"""Which beginnings rows share: sequences of tokens cut into a tree of segments, so that a shared beginning is there once.

A segment continues another one or none; a row is the path from a root to the segment it ends in. Rows that are equal, or
of which one is the beginning of another, end in the same or in an inner segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

LEAST = 16
"""Shortest shared stretch, in tokens, that becomes a segment of its own: below it the extra segment costs what it saves."""


@dataclass(slots=True)
class Segments:
    """A forest over R sequences; entries of one segment stand at the same index of each list, parents before children."""

    lengths: list[int] = field(default_factory=list)
    continues: list[int] = field(default_factory=list)
    """The segment that comes before, or -1."""
    first: list[int] = field(default_factory=list)
    """Place of the segment's first token in its sequences."""
    taken: list[int] = field(default_factory=list)
    """One of the sequences that hold the segment."""
    last: list[int] = field(default_factory=list)
    """R entries: the segment each sequence ends in."""

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return sum(self.lengths)

    def add(self, length: int, continues: int, first: int, taken: int) -> int:
        """A new segment; returns its index."""
        for values, value in (
            (self.lengths, length),
            (self.continues, continues),
            (self.first, first),
            (self.taken, taken),
        ):
            values.append(value)
        return len(self.lengths) - 1

    def path(self, row: int) -> list[int]:
        """The segments of a sequence, from its root on."""
        path, segment = [], self.last[row]
        while segment >= 0:
            path.append(segment)
            segment = self.continues[segment]
        return path[::-1]


def in_order(sequences: Sequence[np.ndarray]) -> tuple[list[int], list[int]]:
    """(order, common): the sequences' indices sorted by their tokens, and how many tokens each one after the first shares
    with the one before it. Tokens are not negative.
    """
    keys = [sequence.astype(">u4").tobytes() for sequence in sequences]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    common = [_common(sequences[a], sequences[b]) for a, b in pairwise(order)]
    return order, common


def _common(a: np.ndarray, b: np.ndarray) -> int:
    size = min(len(a), len(b))
    differs = np.flatnonzero(a[:size] != b[:size])
    return int(differs[0]) if len(differs) else size


def share(sequences: Sequence[np.ndarray], least: int = LEAST) -> Segments:
    """Cut sequences into segments; every stretch of at least `least` tokens that several begin with is there once."""
    order, common = in_order(sequences)
    segments = Segments(last=[-1] * len(sequences))
    todo = [(0, len(order), 0, -1)] if order else []
    while todo:
        begin, end, depth, parent = todo.pop()
        cuts = [k + 1 for k in range(begin, end - 1) if common[k] < depth + least]
        for low, high in zip([begin, *cuts], [*cuts, end], strict=True):
            deep = min(common[low : high - 1], default=len(sequences[order[low]]))
            if deep == depth:
                segments.last[order[low]] = parent
                continue
            segment = segments.add(deep - depth, parent, depth, order[low])
            if high - low == 1:
                segments.last[order[low]] = segment
            else:
                todo.append((low, high, deep, segment))
    return segments
