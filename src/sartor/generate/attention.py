"""Attention for generation: rows that go on and rows that join share one flat forward pass, without padding.

Every row lives in a slot, a fixed stretch of the buffers of keys and values. The tokens of one pass lie end to end: first the
prompts of joining rows without their last token, then one token for every slot. Each layer writes the new keys and values
into the slots, copies what a joining row has in common with another, and attends: prompts within themselves, like packed
training rows; the last tokens over their slots, with the query heads that share a key side by side instead of repeated keys.

`register` makes it known to transformers under `SLOTS` through the public attention interface, so it serves every architecture
that uses that interface; `generate/probe.py` measures whether it is exact.

T: tokens of the pass, N: slots in use, P: places looked at, H: query heads, K: key-value heads, G = H / K, D: head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from sartor.models.attention import attend_rows
from sartor.models.bounds import RowBounds
from sartor.models.native.decode import decode, takes

SLOTS = "sartor_slots"
CLEARED = 64
"""Places are cleared in steps of this many: what lies behind the end of a row is masked but must be finite."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The first `length` places of slot `source` are also those of slot `target`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Tail:
    """`length` tokens from flat place `start` on: the end of what slot `slot` holds up to `end`."""

    start: int
    length: int
    slot: int
    end: int


class Slots:
    """Keys and values of all layers, and what the pass in flight does with them.

    Args:
        count: slots.
        places: tokens that fit into one slot.
        device: where the buffers live.
        windows: filled with how many places each layer looks back.
        native: whether the compiled kernel may be used where it fits.
    """

    def __init__(
        self, count: int, places: int, device: torch.device, windows: dict[int, int | None], *, native: bool
    ) -> None:
        self.count, self.places, self.device, self.windows, self.native = count, places, device, windows, native
        self.layers: dict[int, Layer] = {}
        self.write = torch.empty(0, dtype=torch.int64, device=device)
        self.fresh = RowBounds()
        self.fresh_tokens = 0
        self.tails: Sequence[Tail] = ()
        self.copies: Sequence[Copy] = ()
        self.ends = torch.empty(0, dtype=torch.int64, device=device)
        self.used = 0
        self._masks: dict[int | None, torch.Tensor] = {}

    def plan(
        self,
        write: torch.Tensor,
        ends: torch.Tensor,
        used: int,
        fresh: Sequence[int] = (),
        tails: Sequence[Tail] = (),
        copies: Sequence[Copy] = (),
    ) -> None:
        """Announce a pass.

        Args:
            write: [T] flat place, slot * places + place, of every token.
            ends: [N] how many places of each slot the last tokens see, themselves included.
            used: the largest of `ends`.
            fresh: lengths of the joining prompts, in order from flat place 0, that begin at place 0 of their slots.
            tails: joining prompts that go on behind what is copied.
            copies: in an order in which every source is complete before it is copied.
        """
        self.write, self.ends, self.used = write, ends, used
        self.fresh_tokens, self.tails, self.copies = sum(fresh), tails, copies
        if fresh:
            self.fresh.set(fresh, self.device)
        self._masks.clear()

    def mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """[N, 1, 1, P] to be added to scores: 0 where a last token may look, -inf elsewhere."""
        if window not in self._masks:
            place = torch.arange(self.used, device=self.device)
            seen = place < self.ends[:, None]
            if window is not None:
                seen &= place >= self.ends[:, None] - window
            mask = torch.zeros(seen.shape, dtype=dtype, device=self.device).masked_fill_(~seen, float("-inf"))
            self._masks[window] = mask[:, None, None]
        return self._masks[window]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` places of a slot to another, in all layers."""
        for layer in self.layers.values():
            layer.copy(Copy(source, target, length))


@dataclass(slots=True)
class Layer:
    """Keys and values of one layer, [slots, places, K, D] each."""

    keys: torch.Tensor
    values: torch.Tensor
    cleared: int = field(default=0)
    """Places of every slot that hold numbers."""

    @classmethod
    def like(cls, slots: Slots, key: torch.Tensor, value: torch.Tensor) -> Layer:
        """Buffers for keys [1, K, T, D] and values; memory that is never reached is never touched."""
        keys, values = (x.new_empty((slots.count, slots.places, x.shape[1], x.shape[3])) for x in (key, value))
        return cls(keys, values)

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


@dataclass(frozen=True, slots=True)
class _How:
    scaling: float
    window: int | None
    softcap: float | None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attend_slots(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    slots: Slots,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D].

    `attention_mask` is always None here: transformers builds none for an implementation it has no mask for. Dropout does not
    exist: nobody generates while training.
    """
    index = int(module.layer_idx)  # type: ignore[arg-type]
    slots.windows[index] = sliding_window
    how = _How(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    layer = slots.layers.get(index)
    if layer is None:
        layer = slots.layers[index] = Layer.like(slots, key, value)
    layer.clear(slots.used)
    for buffer, new in ((layer.keys, key), (layer.values, value)):
        buffer.view(-1, *buffer.shape[2:]).index_copy_(0, slots.write, new[0].transpose(0, 1))
    for copy in slots.copies:
        layer.copy(copy)
    parts = []
    if fresh := slots.fresh_tokens:
        parts.append(
            attend_rows(
                module,
                query[:, :, :fresh],
                key[:, :, :fresh],
                value[:, :, :fresh],
                None,
                scaling=how.scaling,
                sliding_window=sliding_window,
                softcap=softcap,
                row_bounds=slots.fresh,
            )[0]
        )
    parts += [_tail(query, layer, tail, how) for tail in slots.tails]
    parts.append(_last(query, layer, slots, how))
    return (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]), None


def _last(query: torch.Tensor, layer: Layer, slots: Slots, how: _How) -> torch.Tensor:
    """The last tokens, one of each slot, over what their slots hold -> [1, N, H, D]."""
    count, heads = len(slots.ends), query.shape[1]
    last = query[0, :, -count:].transpose(0, 1)
    if slots.native and takes(layer.keys, layer.values):
        window, softcap = how.window or 0, how.softcap or 0.0
        keys, values = layer.keys, layer.values
        return decode(last, keys, values, slots.ends, scale=how.scaling, window=window, softcap=softcap)[None]
    keys, values = (x[:count, : slots.used].transpose(1, 2) for x in (layer.keys, layer.values))
    last = last.reshape(count, keys.shape[1], -1, query.shape[-1])
    out = _attend(last, keys, values, slots.mask(how.window, query.dtype), how)
    return out.reshape(1, count, heads, -1)


def _tail(query: torch.Tensor, layer: Layer, tail: Tail, how: _How) -> torch.Tensor:
    """The end of one prompt over all of it -> [1, L, H, D]."""
    heads, groups = query.shape[1], query.shape[1] // layer.keys.shape[2]
    keys, values = (x[tail.slot, : tail.end].transpose(0, 1)[None] for x in (layer.keys, layer.values))
    asked = query[:, :, tail.start : tail.start + tail.length]
    asked = asked.reshape(1, -1, groups * tail.length, query.shape[-1])
    place = torch.arange(tail.end, device=query.device)
    behind = (tail.end - tail.length + torch.arange(tail.length, device=query.device))[:, None] - place
    seen = (behind >= 0) & (behind < (tail.end if how.window is None else how.window))
    mask = torch.zeros(seen.shape, dtype=query.dtype, device=query.device).masked_fill_(~seen, float("-inf"))
    out = _attend(asked, keys, values, mask.repeat(groups, 1)[None, None], how)
    return out.view(1, heads, tail.length, -1).transpose(1, 2)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, how: _How) -> torch.Tensor:
    """[N, K, L, D], [N, K, P, D] twice and a mask to be added -> [N, K, L, D]."""
    if how.softcap is None:
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=how.scaling)
    scores = how.softcap * torch.tanh((q @ k.transpose(2, 3)) * how.scaling / how.softcap) + mask
    return scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v


def register() -> None:
    """Make `SLOTS` known to transformers, whose import is slow."""
    from transformers import AttentionInterface

    AttentionInterface.register(SLOTS, attend_slots)
