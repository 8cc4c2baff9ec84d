"""Where the rows of a batch begin, and how their attention is computed together.

A batch is a run of segments. A segment sees itself causally, and all of what it continues: its prefix. S: segments,
T: tokens, R: segments of a group, L: their padded length, P: places of a prefix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from sartor.models.varlen import Choice

SHORT = 256
"""Longest segment, in tokens, that is padded and multiplied together with others."""
GROWTH = 1.25
"""Segments of one group differ in length by at most this factor, so at most a fifth of its products are padding."""


@dataclass(frozen=True, slots=True)
class Group:
    """Segments that are computed together: several short ones of like length with the same prefix, or a long one."""

    rows: int
    length: int
    prefix: int | None
    """Which of the plan's prefixes comes before all of them"""

    @property
    def size(self) -> int:
        """R * L."""
        return self.rows * self.length


@dataclass(frozen=True, slots=True)
class Plan:
    """The segments in groups, padded on the right, one group after the other. W: the sizes of all groups together."""

    groups: tuple[Group, ...]
    take: torch.Tensor
    """[W] places in T; padding repeats a segment's last one"""
    home: torch.Tensor
    """[T] where each place of the batch stands in W"""
    prefixes: tuple[tuple[slice, ...], ...]
    """What stands before the segments of a group: stretches of T"""
    take_all: torch.Tensor
    """`take` and after it the places of all prefixes"""


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
        self.masks: dict[int | None, object] = {}
        """Block masks made for this layout, by window."""

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

    def _places(self, segment: int) -> torch.Tensor:
        return torch.arange(self.starts[segment], self.starts[segment + 1])

    @cached_property
    def plan(self) -> Plan:
        """How the segments are computed together by plain products, longer ones by a call each."""
        alike: dict[int, list[int]] = defaultdict(list)
        runs: list[list[int]] = []
        for segment, length in enumerate(self.lengths):
            if length <= SHORT:
                alike[self.continues[segment]].append(segment)
            else:
                runs.append([segment])
        for members in alike.values():
            runs += self._similar(members)
        parents = sorted({parent for parent in self.continues if parent >= 0})
        groups = tuple(self._group(run, parents) for run in runs)
        padded = [self._padded(run) for run in runs]
        take = torch.cat([places for places, _ in padded])
        real = torch.cat([kept for _, kept in padded]).nonzero()[:, 0]
        home = torch.empty(self.starts[-1], dtype=torch.int64)
        home[take[real]] = real
        paths = [[*self.ancestors(parent), parent] for parent in parents]
        prefixes = tuple(tuple(slice(self.starts[one], self.starts[one + 1]) for one in path) for path in paths)
        take_all = torch.cat([take, *(self._places(one) for path in paths for one in path)])
        return Plan(groups, take.to(self.device), home.to(self.device), prefixes, take_all.to(self.device))

    def _similar(self, segments: list[int]) -> list[list[int]]:
        """Runs of segments, ascending in length, within which the longest is at most GROWTH times the shortest."""
        runs: list[list[int]] = []
        for segment in sorted(segments, key=lambda one: (self.lengths[one], one)):
            if not runs or self.lengths[segment] > GROWTH * self.lengths[runs[-1][0]] + 4:
                runs.append([])
            runs[-1].append(segment)
        return runs

    def _group(self, run: list[int], parents: list[int]) -> Group:
        parent = self.continues[run[0]]
        return Group(len(run), self.lengths[run[-1]], parents.index(parent) if parent >= 0 else None)

    def _padded(self, run: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """[R * L] places in T, and which of them are not padding."""
        column = torch.arange(self.lengths[run[-1]])
        lengths = torch.tensor([self.lengths[one] for one in run])[:, None]
        starts = torch.tensor([self.starts[one] for one in run])[:, None]
        return (starts + torch.minimum(column, lengths - 1)).reshape(-1), (column < lengths).reshape(-1)

    @cached_property
    def cumulative(self) -> Cumulative:
        """The segments for one call of a variable-length kernel."""
        paths = [[*self.ancestors(one), one] for one in range(len(self.lengths))]
        seen = [sum(self.lengths[one] for one in path) for path in paths]
        ends = torch.tensor([0, *seen], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        take = torch.cat([self._places(one) for path in paths for one in path]).to(self.device) if self.shares else None
        starts = torch.tensor(self.starts, dtype=torch.int32).to(self.device)
        return Cumulative(starts, ends.to(self.device), max(self.lengths), max(seen), take)

    @cached_property
    def visible(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Segment [T] and position [T] of each place, and [S, S] which segment sees which."""
        count = len(self.lengths)
        known = torch.eye(count, dtype=torch.bool)
        depth = [0] * count
        for one in range(count):
            path = self.ancestors(one)
            known[one, path] = True
            depth[one] = sum(self.lengths[other] for other in path)
        segment = torch.repeat_interleave(torch.arange(count), torch.tensor(self.lengths))
        shift = torch.tensor(depth) - torch.tensor(self.starts[:-1])
        position = torch.arange(self.starts[-1]) + shift[segment]
        return segment.to(self.device), position.to(self.device), known.to(self.device)


class RowBounds:
    """Holds the layout of the batch in flight. One object for the life of a model, so that compiled layers keep it."""

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self.kernels = True
        """Whether a GPU's kernels for packed rows may be used."""
        self.chosen = Choice("rows", "no batch yet")
        """What computed the attention of the last layer."""
        self.native = False
        """Whether the compiled attention may be used."""
        self.asked: dict[object, Any] | None = None
        """While it is a dictionary, every attention module leaves what it asks for."""

    def set(self, lengths: Sequence[int], device: torch.device, continues: Sequence[int] = ()) -> None:
        """Take the segments of a new batch: their lengths, and for each the one it continues or -1 (empty: all -1)."""
        wanted = tuple(lengths), tuple(continues) or (-1,) * len(lengths), device
        now = self.layout
        if now is None or (now.lengths, now.continues, now.device) != wanted:
            self.layout = Layout(*wanted)
