"""The order of training rows as a pure function of (seed, epoch, cursor), and their packing into micro-batches.

An optimiser step is a run of consecutive rows of the epoch's permutation: a fixed number of rows, or as many as fit into
a number of tokens. Its rows are then packed into micro-batches. Resume is two integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.tokens.batch import Batch, Rendered, collate
from sartor.tokens.pack import pack

if TYPE_CHECKING:
    from sartor.tokens.store import TokenSet


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


class TokenSource:
    """Implements `BatchSource` over a stored set of tokenised rows.

    Args:
        rows: the tokenised training rows.
        size: rows or tokens of one optimiser step.
        micro_tokens: tokens of one forward pass, at most (a longer row goes alone); None puts every row in its own batch.
        epochs: passes over the rows; a fraction stops within the epoch. Ignored when `steps` is given.
        steps: optimiser steps, over as many epochs as that takes.
    """

    def __init__(
        self,
        rows: TokenSet,
        *,
        size: StepSize,
        micro_tokens: int | None,
        seed: int,
        epochs: float = 1.0,
        steps: int | None = None,
    ) -> None:
        if len(rows) == 0:
            raise ValueError("no rows to train on")
        self.rows, self.size, self.micro_tokens, self.seed = rows, size, micro_tokens, seed
        self.epoch, self.cursor = 0, 0
        self._order = lru_cache(maxsize=2)(self._make_order)
        self.steps = steps if steps is not None else self._count(epochs)
        self._taken: list[Rendered] = []
        self.done = 0

    def _make_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        return order, boundaries(self.rows.lengths[order], self.size)

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

    def take(self) -> list[Batch]:
        """The micro-batches of the next optimiser step."""
        if self.done >= self.steps:
            raise StopIteration
        order, ends = self._order(self.epoch)
        start = int(ends[self.cursor - 1]) if self.cursor else 0
        self._taken = [self.rows[int(index)] for index in order[start : int(ends[self.cursor])]]
        self.cursor += 1
        if self.cursor == len(ends):
            self.epoch, self.cursor = self.epoch + 1, 0
        self.done += 1
        return self.again(self.micro_tokens)

    def again(self, micro_tokens: int | None) -> list[Batch]:
        """The step taken last once more, packed into micro-batches of another size from now on."""
        self.micro_tokens = micro_tokens
        if micro_tokens is None:
            return [collate([row]) for row in self._taken]
        bins = pack([len(row) for row in self._taken], micro_tokens)
        return [collate([self._taken[index] for index in members]) for members in bins]

    def state(self) -> dict[str, Any]:
        """Where the next step starts."""
        return {"epoch": self.epoch, "cursor": self.cursor, "done": self.done}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken; with the next epoch where there are fewer rows now than then."""
        self.epoch, self.cursor, self.done = state["epoch"], state["cursor"], state["done"]
        if self.cursor >= len(self._order(self.epoch)[1]):
            self.epoch, self.cursor = self.epoch + 1, 0
