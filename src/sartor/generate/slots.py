"""Where generation keeps keys and values, and what the pass in flight does with them.

Every row lives in a slot, a fixed stretch of buffers that are made once. What all prompts begin with, the trunk, is kept once
for all: place 0 of a slot is the place after it.

T: tokens of the pass, N: slots in use, P: places looked at, K: key-value heads, D: head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sartor.models.bounds import RowBounds
from sartor.models.virtual import Given

CLEARED = 64
"""Places are cleared in steps of this many: what lies behind the end of a row is masked but must be finite."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The first `length` places of slot `source` are also those of slot `target`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """`length` tokens of the pass from `start` on: what is computed of the `end` places that slot `slot` will hold."""

    start: int
    length: int
    slot: int
    end: int


@dataclass(slots=True)
class Layer:
    """Keys and values of one layer, [slots, places, K, D] each, and those of the trunk, [trunk, K, D] each."""

    keys: torch.Tensor
    values: torch.Tensor
    trunk: tuple[torch.Tensor, torch.Tensor]
    cleared: int = 0
    """Places of every slot that hold numbers."""

    def clear(self, used: int) -> None:
        """Make the first `used` places of every slot numbers."""
        if used > self.cleared:
            end = used + CLEARED
            self.keys[:, self.cleared : end] = 0
            self.values[:, self.cleared : end] = 0
            self.cleared = end

    def copy(self, copy: Copy) -> None:
        """Copy the beginning of a slot to another."""
        for buffer in (self.keys, self.values):
            buffer[copy.target, : copy.length] = buffer[copy.source, : copy.length]


class Slots:
    """Keys and values of all layers, and the plan of the pass in flight.

    Args:
        count: slots.
        places: tokens that fit into one slot.
        trunk: tokens that all rows begin with.
        device: where the buffers live.
        native: whether the compiled kernel may be used where it fits.
    """

    def __init__(self, count: int, places: int, trunk: int, device: torch.device, *, native: bool) -> None:
        self.count, self.places, self.trunk, self.device, self.native = count, places, trunk, device, native
        self.layers: dict[int, Layer] = {}
        self.windows: dict[int, int | None] = {}
        """Of every layer that attended, how many places it looks back; None: all."""
        self.laying = False
        """The pass in flight computes the trunk."""
        self.given: Given | None = None
        """Keys and values that the pass in flight does not compute."""
        self.write = torch.empty(0, dtype=torch.int64, device=device)
        self.fresh = RowBounds()
        self.fresh.native = native
        self.fresh_tokens = 0
        self.chunks: Sequence[Chunk] = ()
        self.copies: Sequence[Copy] = ()
        self.ends = torch.empty(0, dtype=torch.int64, device=device)
        self.used = 0
        self._masks: dict[tuple[str, int | None], torch.Tensor] = {}

    def plan_trunk(self) -> None:
        """Announce the pass whose tokens are the trunk."""
        self.laying = True
        self.fresh.set((self.trunk,), self.device)

    def plan(
        self,
        write: torch.Tensor,
        ends: torch.Tensor,
        used: int,
        fresh: Sequence[int] = (),
        chunks: Sequence[Chunk] = (),
        copies: Sequence[Copy] = (),
    ) -> None:
        """Announce a pass.

        Args:
            write: [T] slot * places + place, of every token.
            ends: [N] how many places of each slot the last tokens see, themselves included.
            used: the largest of `ends`, or more.
            fresh: lengths of the joining prompts, in order from the first token, that begin at place 0 and behind no trunk.
            chunks: joining prompts that go on behind a trunk or what is copied.
            copies: in an order in which every source is complete before it is copied.
        """
        self.laying = False
        self.write, self.ends, self.used = write, ends, used
        self.fresh_tokens, self.chunks, self.copies = sum(fresh), chunks, copies
        if fresh:
            self.fresh.set(tuple(fresh), self.device)
        self._masks.clear()

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> Layer:
        """The buffers of a layer, made like its keys and values [1, K, T, D]; what is never reached is never touched."""
        if index not in self.layers:
            keys, values = (x.new_empty((self.count, self.places, x.shape[1], x.shape[3])) for x in (key, value))
            before = (x.new_empty((0, x.shape[1], x.shape[3])) for x in (key, value))
            self.layers[index] = Layer(keys, values, (next(before), next(before)))
        return self.layers[index]

    def mask(self, window: int | None) -> torch.Tensor:
        """[N, P] fp32 to be added to scores: 0 where a last token may look, -inf elsewhere."""
        if ("slots", window) not in self._masks:
            place = torch.arange(self.used, device=self.device)
            seen = place < self.ends[:, None]
            if window is not None:
                seen &= place >= self.ends[:, None] - window
            self._masks["slots", window] = _added(seen)
        return self._masks["slots", window]

    def trunk_mask(self, window: int) -> torch.Tensor:
        """[N, trunk] fp32 as `mask`, of the places of the trunk."""
        if ("trunk", window) not in self._masks:
            place = torch.arange(self.trunk, device=self.device)
            self._masks["trunk", window] = _added(place >= self.ends[:, None] + self.trunk - window)
        return self._masks["trunk", window]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` places of a slot to another, in all layers."""
        for layer in self.layers.values():
            layer.copy(Copy(source, target, length))


def _added(seen: torch.Tensor) -> torch.Tensor:
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, float("-inf"))
