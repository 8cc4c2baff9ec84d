"""Where the rows of a batch begin, and how their attention is computed together.

A batch is a run of segments. A segment sees itself causally, and all of what it continues: its prefix. S: segments,
T: tokens, R: segments of a group, L: their padded length, P: places of a prefix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

SHORT = 128
"""Longest segment, in tokens, that is padded and multiplied together with others."""
GROWTH = 1.25
"""Segments of one group differ in length by at most this factor, so at most a fifth of its products are padding."""


@dataclass(frozen=True, slots=True)
class Group:
    """Short segments with the same prefix that are computed together."""

    rows: int
    length: int
    take: torch.Tensor
    """[R * L] places in T; padding repeats a segment's last one"""
    keep: torch.Tensor
    """Which of the R * L are real"""
    prefix: torch.Tensor | None
    """[P] places in T that come before all of them"""


@dataclass(frozen=True, slots=True)
class Long:
    """A segment that is computed by itself."""

    start: int
    length: int
    prefix: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The segments in groups. `order` [T] puts what comes out, one group after the other, back into the batch's order."""

    groups: tuple[Group, ...]
    long: tuple[Long, ...]
    order: torch.Tensor


@dataclass(frozen=True, slots=True)
class Cumulative:
    """The segments as variable-length kernels want them; prefixes stand before the keys of every segment anew."""

    queries: torch.Tensor
    """[S + 1] int32"""
    keys: torch.Tensor
    """[S + 1] int32"""
    longest_query: int
    longest_key: int
    take: torch.Tensor | None
    """Places in T of all keys, where they are not the T places themselves"""


class Layout:
    """The segments of one batch: `lengths` [S], and `continues` [S], the segment before each or -1."""

    def __init__(self, lengths: tuple[int, ...], continues: tuple[int, ...], device: torch.device) -> None:
        self.lengths, self.continues, self.device = lengths, continues, device
        self.starts = [0]
        for length in lengths:
            self.starts.append(self.starts[-1] + length)
        self._prefixes: dict[int, torch.Tensor] = {}

    @property
    def shares(self) -> bool:
        """Whether any segment continues another."""
        return any(parent >= 0 for parent in self.continues)

    def ancestors(self, segment: int) -> list[int]:
        """What a segment continues, from the root on."""
        path = []
        while (segment := self.continues[segment]) >= 0:
            path.append(segment)
        return path[::-1]

    def prefix(self, segment: int) -> torch.Tensor | None:
        """[P] places of what a segment continues, on the batch's device."""
        parent = self.continues[segment]
        if parent < 0:
            return None
        if parent not in self._prefixes:
            places = torch.cat([self._places(one) for one in self.ancestors(segment)])
            self._prefixes[parent] = places.to(self.device)
        return self._prefixes[parent]

    def _places(self, segment: int) -> torch.Tensor:
        return torch.arange(self.starts[segment], self.starts[segment + 1])

    @cached_property
    def plan(self) -> Plan:
        """How the segments are computed together by plain products, longer ones by a call each."""
        alike: dict[int, list[int]] = defaultdict(list)
        alone: list[int] = []
        for segment, length in enumerate(self.lengths):
            if length <= SHORT:
                alike[self.continues[segment]].append(segment)
            else:
                alone.append(segment)
        groups, places = [], []
        for members in alike.values():
            for run in self._similar(members):
                group, real = self._group(run)
                groups.append(group)
                places.append(real)
        long = [Long(self.starts[one], self.lengths[one], self.prefix(one)) for one in alone]
        places += [self._places(one) for one in alone]
        return Plan(tuple(groups), tuple(long), torch.argsort(torch.cat(places)).to(self.device))

    def _similar(self, segments: list[int]) -> list[list[int]]:
        """Runs of segments, ascending in length, within which the longest is at most GROWTH times the shortest."""
        runs: list[list[int]] = []
        for segment in sorted(segments, key=lambda one: (self.lengths[one], one)):
            if not runs or self.lengths[segment] > GROWTH * self.lengths[runs[-1][0]] + 4:
                runs.append([])
            runs[-1].append(segment)
        return runs

    def _group(self, members: list[int]) -> tuple[Group, torch.Tensor]:
        """The group, and the places in T of what it computes."""
        longest = self.lengths[members[-1]]
        column = torch.arange(longest)
        lengths = torch.tensor([self.lengths[one] for one in members])[:, None]
        starts = torch.tensor([self.starts[one] for one in members])[:, None]
        take = (starts + torch.minimum(column, lengths - 1)).reshape(-1)
        keep = (column < lengths).reshape(-1).nonzero()[:, 0]
        prefix = self.prefix(members[0])
        return Group(len(members), longest, take.to(self.device), keep.to(self.device), prefix), take[keep]

    @cached_property
    def cumulative(self) -> Cumulative:
        """The segments for one call of a variable-length kernel."""
        paths = [[*self.ancestors(one), one] for one in range(len(self.lengths))]
        seen = [sum(self.lengths[one] for one in path) for path in paths]
        ends = torch.tensor([0, *seen], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        take = torch.cat([self._places(one) for path in paths for one in path]).to(self.device) if self.shares else None
        starts = torch.tensor(self.starts, dtype=torch.int32).to(self.device)
        return Cumulative(starts, ends.to(self.device), max(self.lengths), max(seen), take)


class RowBounds:
    """Holds the layout of the batch in flight. One object for the life of a model, so that compiled layers keep it."""

    def __init__(self) -> None:
        self.layout: Layout | None = None

    def set(self, lengths: Sequence[int], device: torch.device, continues: Sequence[int] = ()) -> None:
        """Take the segments of a new batch: their lengths, and for each the one it continues or -1 (empty: all -1)."""
        wanted = tuple(lengths), tuple(continues) or (-1,) * len(lengths), device
        now = self.layout
        if now is None or (now.lengths, now.continues, now.device) != wanted:
            self.layout = Layout(*wanted)
