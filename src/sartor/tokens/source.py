"""The order of training rows as a pure function of (seed, epoch, cursor), and their packing into micro-batches.

An optimiser step is a run of consecutive units of the epoch's order (`tokens/course.py`): a fixed number of them, or as many as fit
into a number of tokens. A unit is a row, or all renderings of one (`tokens/units.py`). They are then shared out to the ranks that
train together, and each packs its own into micro-batches.
Resume is two integers. The next step is made in a background thread while the model works on this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.tokens.batch import Batch, Rendered, collate, collate_shared
from sartor.tokens.course import PLAIN, Course
from sartor.tokens.pack import pack, pack_shared
from sartor.tokens.units import Units, cost

if TYPE_CHECKING:
    from sartor.tokens.store import TokenRows

Unit = Sequence[Rendered]
"""Rows that stay in one micro-batch."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """How many rows or tokens make one optimiser step; exactly one is set."""

    examples: int | None = None
    tokens: int | None = None


def boundaries(lengths: np.ndarray, size: StepSize) -> np.ndarray:
    """Where each optimiser step ends in the permuted rows: ascending indices, the last one is len(lengths)."""
    if size.examples is not None:
        ends = np.arange(size.examples, len(lengths) + size.examples, size.examples)
        return np.minimum(ends, len(lengths))
    assert size.tokens is not None
    cuts: list[int] = []
    total = 0
    for index, length in enumerate(lengths.tolist()):
        if total and total + length > size.tokens:
            cuts.append(index)
            total = 0
        total += length
    return np.asarray([*cuts, len(lengths)])


@dataclass(frozen=True, slots=True)
class Seat:
    """Which rank of how many takes rows; with `lockstep` all of them take the same number of micro-batches."""

    rank: int = 0
    size: int = 1
    lockstep: bool = False


ALL = Seat()
"""The only rank."""


@dataclass(frozen=True, slots=True)
class Step:
    """The rows of one optimiser step, and the micro-batches that this rank takes of them."""

    batches: tuple[Batch, ...]
    rows: tuple[int, ...]
    """Dataset indices of every rank's rows."""
    tokens: int
    """Of every rank."""
    supervised: int
    """Scored tokens of every rank."""


def shares(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Indices of the rows that each rank takes, about equal in tokens: the longest first, to whoever has least."""
    load = [0] * ranks
    members: list[list[int]] = [[] for _ in range(ranks)]
    for index in sorted(range(len(lengths)), key=lambda each: (-lengths[each], each)):
        rank = load.index(min(load))
        members[rank].append(index)
        load[rank] += lengths[index]
    return [sorted(each) for each in members]


def seated(units: Sequence[Unit], micro_tokens: int | None, seat: Seat, *, share: bool = False) -> list[Batch]:
    """The micro-batches that the rank in `seat` takes of these units; in lockstep, some in which nothing is scored.

    With `share`, what rows of a micro-batch begin with is computed once.
    """
    costs = [cost(unit, shared=share) for unit in units]
    if seat.size == 1:
        return [_lay(members, share) for members in _packed(units, costs, micro_tokens, share)]
    every = [
        _packed([units[index] for index in members], [costs[index] for index in members], micro_tokens, share)
        for members in shares(costs, seat.size)
    ]
    mine = every[seat.rank]
    if seat.lockstep and units:
        short = units[costs.index(min(costs))]
        idle = [replace(row, weight=np.zeros_like(row.weight)) for row in short]
        mine = mine + [[idle]] * (max(map(len, every)) - len(mine))
    return [_lay(members, share) for members in mine]


def _lay(units: Sequence[Unit], share: bool) -> Batch:
    rows = [row for unit in units for row in unit]
    groups = [number for number, unit in enumerate(units) for _ in unit]
    return collate_shared(rows, groups) if share else collate(rows, groups)


class TokenSource:
    """Implements `BatchSource` over a stored set of tokenised rows.

    Args:
        rows: the tokenised training rows.
        size: rows or tokens of one optimiser step.
        micro_tokens: tokens of one forward pass, at most (a longer row goes alone); None puts every row in its own batch.
        epochs: passes over the rows; a fraction stops within the epoch. Ignored when `steps` is given.
        steps: optimiser steps, over as many epochs as that takes.
        seat: which of the ranks that train together this one is.
        pin: put batches where a GPU can fetch them while it computes.
        share: compute once what rows of a micro-batch begin with; exact without dropout.
        course: which units an epoch takes, in which order, and how much each counts.
        together: whether all renderings of a row are one unit.
        rewrite: makes other units of those of a step, given its number, with the weights as they are when it is taken.
    """

    def __init__(
        self,
        rows: TokenRows,
        *,
        size: StepSize,
        micro_tokens: int | None,
        seed: int,
        epochs: float = 1.0,
        steps: int | None = None,
        seat: Seat = ALL,
        pin: bool = False,
        share: bool = False,
        course: Course = PLAIN,
        together: bool = False,
        rewrite: Callable[[Sequence[Unit], int], Sequence[Unit]] | None = None,
    ) -> None:
        if len(rows) == 0:
            raise ValueError("no rows to train on")
        self.units, self.size, self.micro_tokens, self.seed = Units(rows, together=together), size, micro_tokens, seed
        self.seat, self._pin, self._share, self._course = seat, pin, share, course
        self.epoch, self.cursor = 0, 0
        self._order = lru_cache(maxsize=2)(self._make_order)
        self.steps = steps if steps is not None else self._count(epochs)
        self._rewrite = rewrite
        self._last: tuple[int, int] = (0, 0)
        self._written: Sequence[Unit] = ()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="next-step")
        self._next: tuple[tuple[int, int, int | None], Future[Step]] | None = None
        self.done = 0

    def _make_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = self._course.order(len(self.units), self.seed, epoch)
        return order, boundaries(self.units.lengths[order], self.size)

    def _count(self, epochs: float) -> int:
        whole = int(epochs)
        steps = sum(len(self._order(epoch)[1]) for epoch in range(whole))
        if epochs > whole:
            steps += max(1, round((epochs - whole) * len(self._order(whole)[1])))
        return max(1, steps)

    @property
    def epochs(self) -> float:
        """How many epochs have been taken so far, with the fraction of the current one."""
        return self.epoch + self.cursor / len(self._order(self.epoch)[1])

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in the first epoch."""
        return len(self._order(0)[1])

    def take(self) -> Step:
        """The next optimiser step. Raises StopIteration after the last."""
        if self.done >= self.steps:
            raise StopIteration
        self._last = self.epoch, self.cursor
        key = (*self._last, self.micro_tokens)
        if self._rewrite is not None:
            self._written = self._rewrite(self._units(*self._last), self.done)
            step = self._laid(self._written, self.epoch, self.micro_tokens)
        else:
            step = self._next[1].result() if self._next is not None and self._next[0] == key else self._step(*key)
        self.cursor += 1
        if self.cursor == len(self._order(self.epoch)[1]):
            self.epoch, self.cursor = self.epoch + 1, 0
        self.done += 1
        self._next = None
        if self.done < self.steps and self._rewrite is None:
            key = self.epoch, self.cursor, self.micro_tokens
            self._next = key, self._thread.submit(self._step, *key)
        return step

    def again(self, micro_tokens: int | None) -> Step:
        """The step taken last once more, packed into micro-batches of another size from now on."""
        self.micro_tokens = micro_tokens
        if self._rewrite is not None:
            return self._laid(self._written, self._last[0], micro_tokens)
        return self._step(*self._last, micro_tokens)

    def _step(self, epoch: int, cursor: int, micro_tokens: int | None) -> Step:
        """A pure function of its arguments; it runs in the background as well."""
        return self._laid(self._units(epoch, cursor), epoch, micro_tokens)

    def _units(self, epoch: int, cursor: int) -> list[Unit]:
        order, ends = self._order(epoch)
        start = int(ends[cursor - 1]) if cursor else 0
        return [self._unit(int(index)) for index in order[start : int(ends[cursor])]]

    def _laid(self, units: Sequence[Unit], epoch: int, micro_tokens: int | None) -> Step:
        batches = seated(units, micro_tokens, self.seat, share=self._share)
        draw = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0])
        drawn = [replace(batch, draw=draw) for batch in batches]
        taken = [row for unit in units for row in unit]
        return Step(
            batches=tuple(_pinned(batch) if self._pin else batch for batch in drawn),
            rows=tuple(unit[0].row for unit in units),
            tokens=sum(len(row) for row in taken),
            supervised=sum(row.supervised for row in taken),
        )

    def _unit(self, index: int) -> Unit:
        unit, scale = self.units[index], self._course.scale
        return unit if scale is None else [replace(row, weight=row.weight * scale[index]) for row in unit]

    def state(self) -> dict[str, Any]:
        """Where the next step starts."""
        return {"epoch": self.epoch, "cursor": self.cursor, "done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken; with the next epoch where there are fewer rows now than then."""
        self.epoch, self.cursor, self.done = state["epoch"], state["cursor"], state["done"]
        if self.cursor >= len(self._order(self.epoch)[1]):
            self.epoch, self.cursor = self.epoch + 1, 0


def _packed(units: Sequence[Unit], costs: Sequence[int], micro_tokens: int | None, share: bool) -> list[list[Unit]]:
    """Units by micro-batch."""
    if micro_tokens is None:
        return [[unit] for unit in units]
    if share and all(len(unit) == 1 for unit in units):
        bins = pack_shared([unit[0].ids for unit in units], micro_tokens)
    else:
        bins = pack(costs, micro_tokens)
    return [[units[index] for index in members] for members in bins]


def _pinned(batch: Batch) -> Batch:
    tensors = {each.name: getattr(batch, each.name) for each in fields(batch)}
    return replace(
        batch, **{name: value.pin_memory() for name, value in tensors.items() if hasattr(value, "pin_memory")}
    )
