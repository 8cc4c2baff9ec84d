"""The tensors of one forward pass: rows laid end to end, no padding, and a flat list of the places that are scored.

Rows that begin alike can share their beginning: it is then a segment of its own, computed once, that others continue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.tokens.prefix import LEAST, Segments, share

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Rendered:
    """One row as tokens: `ids` int32 [L]; `weight` float32 [L], the loss weight of each token *as a target*."""

    ids: np.ndarray
    weight: np.ndarray
    row: int
    """Index of the row in its dataset, so that every later message can name file and line."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def supervised(self) -> int:
        """How many tokens carry loss. The first token of a row has nothing before it to be predicted from."""
        return int(np.count_nonzero(self.weight[1:]))


@dataclass(frozen=True, slots=True)
class Batch:
    """R rows in S segments, T tokens in all, N scored places.

    A scored place n predicts `target[n]` from the hidden state at flat position `at[n]`, with loss weight `weight[n]`,
    and belongs to row `row[n]` of the batch. Where rows share their beginning, several places have the same `at`.
    """

    ids: torch.Tensor
    """[1, T] int64"""
    position: torch.Tensor
    """[1, T] int64, counts from 0 in every row, and on where a segment continues another"""
    lengths: tuple[int, ...]
    """S entries that sum to T; without shared beginnings every row is one segment"""
    at: torch.Tensor
    """[N] int64"""
    target: torch.Tensor
    """[N] int64"""
    weight: torch.Tensor
    """[N] float32"""
    row: torch.Tensor
    """[N] int64"""
    rows: tuple[int, ...]
    """Dataset index of each of the R rows"""
    columns: Mapping[str, Any] = field(default_factory=dict)
    continues: tuple[int, ...] = ()
    """For each segment the one before it, whose places (and those of the ones before that) it sees, or -1. Empty: all -1"""

    @property
    def tokens(self) -> int:
        """T."""
        return int(self.ids.shape[1])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        return replace(self, **moved)


_TENSORS = ("ids", "position", "at", "target", "weight", "row")


def collate(rows: Sequence[Rendered]) -> Batch:
    """Lay rows end to end. A row's last token predicts nothing and its first is predicted by nothing."""
    import torch

    lengths = [len(row) for row in rows]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    ids = np.concatenate([row.ids for row in rows]).astype(np.int64)
    weight = np.concatenate([row.weight for row in rows]).astype(np.float32)
    weight[starts] = 0.0
    scored = np.flatnonzero(weight)
    position = np.arange(len(ids)) - np.repeat(starts, lengths)
    owner = np.repeat(np.arange(len(rows)), lengths)
    return Batch(
        ids=torch.from_numpy(ids)[None],
        position=torch.from_numpy(position)[None],
        lengths=tuple(lengths),
        at=torch.from_numpy(scored - 1),
        target=torch.from_numpy(ids[scored]),
        weight=torch.from_numpy(weight[scored]),
        row=torch.from_numpy(owner[scored]),
        rows=tuple(row.row for row in rows),
    )


def collate_shared(rows: Sequence[Rendered], *, least: int = LEAST, merge: bool = False) -> Batch:
    """Lay rows out so that every beginning of `least` or more tokens that several of them share is computed once.

    Scored places of a shared beginning appear once for each row that scores them, so sums over `row` are those of separate
    rows. With `merge`, equal places become one whose weight is the sum and whose `row` is the first of them: right for
    losses that only add up places, and cheaper.
    """
    import torch

    segments = share([row.ids for row in rows], least)
    starts = np.concatenate([[0], np.cumsum(segments.lengths)[:-1]]).astype(np.int64)
    spans = list(zip(segments.taken, segments.first, segments.lengths, strict=True))
    ids = np.concatenate([rows[row].ids[first : first + length] for row, first, length in spans]).astype(np.int64)
    position = np.concatenate([np.arange(first, first + length) for _, first, length in spans])
    found = [_scored(row, _places(segments, starts, index)) for index, row in enumerate(rows)]
    at, target, weight = (np.concatenate(part) for part in zip(*found, strict=True))
    owner = np.repeat(np.arange(len(rows)), [len(part[0]) for part in found])
    if merge:
        _, kept, same = np.unique(np.stack([at, target]), axis=1, return_index=True, return_inverse=True)
        weight = np.bincount(same.reshape(-1), weights=weight, minlength=len(kept)).astype(np.float32)
        at, target, owner = at[kept], target[kept], owner[kept]
    return Batch(
        ids=torch.from_numpy(ids)[None],
        position=torch.from_numpy(position)[None],
        lengths=tuple(segments.lengths),
        at=torch.from_numpy(at),
        target=torch.from_numpy(target),
        weight=torch.from_numpy(weight),
        row=torch.from_numpy(owner),
        rows=tuple(row.row for row in rows),
        continues=tuple(segments.continues),
    )


def _places(segments: Segments, starts: np.ndarray, row: int) -> np.ndarray:
    """[L] flat position of each token of a row."""
    parts = [np.arange(starts[one], starts[one] + segments.lengths[one]) for one in segments.path(row)]
    return np.concatenate(parts)


def _scored(row: Rendered, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(at, target, weight) of a row whose tokens stand at `places`."""
    scored = np.flatnonzero(row.weight[1:])
    return places[scored], row.ids[scored + 1].astype(np.int64), row.weight[scored + 1].astype(np.float32)
