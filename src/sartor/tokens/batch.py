"""The tensors of one forward pass: rows laid end to end, no padding, and a flat list of the places that are scored.

Rows that begin alike can share their beginning: it is then a segment of its own, computed once, that others continue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.rows import Image
from sartor.tokens.prefix import LEAST, Segments, share

if TYPE_CHECKING:
    import torch


def _no_labels() -> np.ndarray:
    return np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Rendered:
    """One row as tokens: `ids` int32 [L]; `weight` float32 [L], the loss weight of each token *as a target*.

    A row that teaches no text, but something about it, has its weight on its last token alone, and says what in `labels`.
    """

    ids: np.ndarray
    weight: np.ndarray
    row: int
    """Index of the row in its dataset, so that every later message can name file and line."""
    labels: np.ndarray = field(default_factory=_no_labels)
    """float32 [K], what is known of the row beside its text: the number of a class, a score, a rank; as its objective reads it."""
    images: tuple[Image, ...] = ()
    """What it shows, in the order in which they stand among the tokens."""

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
    last: torch.Tensor
    """[R] int64, flat position of each row's last token"""
    scale: torch.Tensor
    """[R] float32, the largest weight of each row: how much it counts where rows count as a whole"""
    labels: torch.Tensor
    """[R, K] float32, the labels of each row; NaN behind those of a row that has fewer than another"""
    group: torch.Tensor
    """[R] int64, 0, 1, ...: rows with one number belong together, such as the answers to one prompt"""
    columns: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """By name, [N] each: what else is known of every scored place, in the order of `at`"""
    draw: int = 0
    """What random choices about rows depend on beside the rows themselves: made of the seed and the epoch"""
    continues: tuple[int, ...] = ()
    """For each segment the one before it, whose places (and those of the ones before that) it sees, or -1. Empty: all -1"""
    images: tuple[tuple[Image, ...], ...] = ()
    """R entries, what each row shows; empty where none shows anything"""
    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What the model takes beside the ids, pixels above all; made of `images` where it is empty"""

    @property
    def tokens(self) -> int:
        """T."""
        return int(self.ids.shape[1])

    @property
    def groups(self) -> int:
        """How many groups of rows there are."""
        return int(self.group[-1]) + 1

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        columns = {name: column.to(device, non_blocking=True) for name, column in self.columns.items()}
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()}
        return replace(self, **moved, columns=columns, inputs=inputs)


_TENSORS = ("ids", "position", "at", "target", "weight", "row", "last", "scale", "labels", "group")


def collate(rows: Sequence[Rendered], groups: Sequence[int] | None = None) -> Batch:
    """Lay rows end to end. A row's last token predicts nothing and its first is predicted by nothing.

    `groups` tells which rows belong together, ascending from 0; None: every row is on its own.
    """
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
        last=torch.from_numpy(starts + lengths - 1),
        images=tuple(row.images for row in rows) if any(row.images for row in rows) else (),
        **_of_rows(rows, groups),
    )


def _of_rows(rows: Sequence[Rendered], groups: Sequence[int] | None) -> dict[str, Any]:
    """What a batch holds for whole rows, however they are laid out."""
    import torch

    labels = np.full((len(rows), max(len(row.labels) for row in rows)), np.nan, np.float32)
    for line, row in zip(labels, rows, strict=True):
        line[: len(row.labels)] = row.labels
    return {
        "scale": torch.tensor([float(row.weight.max(initial=0.0)) for row in rows], dtype=torch.float32),
        "labels": torch.from_numpy(labels),
        "group": torch.tensor(range(len(rows)) if groups is None else groups, dtype=torch.int64),
    }


def alone(batch: Batch) -> list[Batch]:
    """Each row of a batch in one of its own. Raises ValueError where rows share their beginnings."""
    if any(segment >= 0 for segment in batch.continues):
        raise ValueError("rows that share their beginnings cannot be taken apart")
    parts, start = [], 0
    for index, length in enumerate(batch.lengths):
        own, span = batch.row == index, slice(start, start + length)
        parts.append(
            replace(
                batch,
                ids=batch.ids[:, span],
                position=batch.position[:, span],
                lengths=(length,),
                at=batch.at[own] - start,
                target=batch.target[own],
                weight=batch.weight[own],
                row=batch.row[own] - index,
                rows=(batch.rows[index],),
                last=batch.last[index : index + 1] - start,
                scale=batch.scale[index : index + 1],
                labels=batch.labels[index : index + 1],
                group=batch.group[index : index + 1] * 0,
                columns={name: column[own] for name, column in batch.columns.items()},
                continues=(),
                images=batch.images[index : index + 1],
                inputs=batch.inputs if len(batch.lengths) == 1 else {},
            )
        )
        start += length
    return parts


def collate_shared(
    rows: Sequence[Rendered], groups: Sequence[int] | None = None, *, least: int = LEAST, merge: bool = False
) -> Batch:
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
    places = [_places(segments, starts, index) for index in range(len(rows))]
    found = [_scored(row, own) for row, own in zip(rows, places, strict=True)]
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
        last=torch.from_numpy(np.array([own[-1] for own in places], np.int64)),
        **_of_rows(rows, groups),
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
