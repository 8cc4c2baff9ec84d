"""The tensors of one forward pass: rows laid end to end, no padding, and a flat list of the places that are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

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
    """R rows, T tokens in all, N scored places.

    A scored place n predicts `target[n]` from the hidden state at flat position `at[n]`, with loss weight `weight[n]`,
    and belongs to row `row[n]` of the batch.
    """

    ids: torch.Tensor
    """[1, T] int64"""
    position: torch.Tensor
    """[1, T] int64, counts from 0 in every row"""
    lengths: tuple[int, ...]
    """R entries that sum to T"""
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
