"""What stands before every row without being in it: places that a method has learnt, for prompt and prefix tuning.

A virtual place has an id behind those of the vocabulary. Rows begin with them, or continue one segment of them that is there
once, and the model counts its positions on from there. `Given` holds the keys and values of such places where these are
learnt themselves (prefix tuning).

T: tokens of the pass, k: virtual places, n: virtual places in the pass, K: key-value heads, D: head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sartor.tokens.batch import Batch

Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of the virtual places in every layer, [k, K, D] each."""


@dataclass(frozen=True, slots=True)
class Given:
    """Keys and values that are put in the place of those computed."""

    layers: Layers
    places: torch.Tensor
    """[n] places of the pass that are virtual"""
    which: torch.Tensor
    """[n] which of the k each of them is"""

    def put(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[1, K, T, D] twice -> the same with the given ones at their places."""
        keys, values = (part.index_select(0, self.which).transpose(0, 1)[None] for part in self.layers[layer])
        return key.index_copy(2, self.places, keys), value.index_copy(2, self.places, values)


@dataclass(frozen=True, slots=True)
class Virtual:
    """`count` places before every row. `layers` makes their keys and values; None: the model computes them."""

    count: int
    layers: Callable[[], Layers] | None = None

    def ids(self, vocabulary: int) -> torch.Tensor:
        """[k] int64, behind those of the vocabulary."""
        return torch.arange(vocabulary, vocabulary + self.count)


@dataclass(frozen=True, slots=True)
class Led:
    """A batch with virtual places before its rows."""

    batch: Batch
    own: torch.Tensor
    """[T] where the places of the batch as it was are now"""
    places: torch.Tensor
    """[n] where the virtual ones are"""
    which: torch.Tensor
    """[n] which of the k each of them is"""


def lead(batch: Batch, ids: torch.Tensor, *, share: bool) -> Led:
    """Put places with `ids` [k] before the rows: once for all of them where rows may `share` a beginning, else before each."""
    k, device = len(ids), batch.ids.device
    ids = ids.to(device)
    roots = [segment < 0 for segment in batch.continues] or [True] * len(batch.lengths)
    before = _once(batch, k) if share else _each(batch, k, roots)
    own = torch.arange(batch.tokens) + torch.repeat_interleave(torch.tensor(before), torch.tensor(batch.lengths))
    virtual = torch.ones(batch.tokens + (k if share else k * sum(roots)), dtype=torch.bool)
    virtual[own] = False
    places = virtual.nonzero()[:, 0]
    which = torch.arange(k).repeat(len(places) // k)
    own, places, which = own.to(device), places.to(device), which.to(device)
    position = torch.empty(1, len(virtual), dtype=batch.position.dtype, device=device)
    position[0, own], position[0, places] = batch.position[0] + k, which
    tokens = torch.empty_like(position)
    tokens[0, own], tokens[0, places] = batch.ids[0], ids[which]
    if share:
        lengths = (k, *batch.lengths)
        continues = (
            -1,
            *(0 if root else parent + 1 for root, parent in zip(roots, batch.continues or roots, strict=True)),
        )
    else:
        lengths = tuple(length + k * root for length, root in zip(batch.lengths, roots, strict=True))
        continues = batch.continues
    at, last = own[batch.at], own[batch.last]
    led = replace(batch, ids=tokens, position=position, lengths=lengths, continues=continues, at=at, last=last)
    return Led(led, own, places, which)


def _once(batch: Batch, k: int) -> list[int]:
    """How many virtual places come before each segment, where they are there once."""
    return [k] * len(batch.lengths)


def _each(batch: Batch, k: int, roots: Sequence[bool]) -> list[int]:
    """The same where every row has its own."""
    return [k * sum(roots[: index + 1]) for index in range(len(batch.lengths))]
