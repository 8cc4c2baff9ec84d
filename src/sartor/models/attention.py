"""Attention over rows laid end to end: each row sees itself and nothing else, without a T x T mask.

Registered with transformers under `NAME` through its public attention interface, so it serves every architecture that
uses that interface. Short rows of similar length are padded on the right and multiplied together, which on a CPU is several
times faster than one fused call each (`benchmarks/attention.py`): a causal row never looks to its right, so padding needs no
mask. Long rows take PyTorch's fused kernel one by one. The bounds of the rows travel in one mutable object, so that compiled
layers do not specialise on them.

T: tokens, H: query heads, K: key-value heads, D: head size, R: rows of a group, L: their padded length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "sartor_rows"
SHORT = 128
"""Longest row, in tokens, that is padded and multiplied together with others."""
GROWTH = 1.25
"""Rows of one group differ in length by at most this factor, so at most a fifth of its products are padding."""


@dataclass(frozen=True, slots=True)
class Group:
    """Short rows that are computed together. `take` [R * L] are positions in T; `keep` says which of them are real."""

    rows: int
    length: int
    take: torch.Tensor
    keep: torch.Tensor


class RowBounds:
    """The rows of the batch in flight, and how they are grouped. Groups are made once a batch and serve all layers."""

    def __init__(self) -> None:
        self.lengths: tuple[int, ...] = ()
        self.groups: list[Group] = []
        self.long: list[tuple[int, int]] = []
        self.order: torch.Tensor | None = None

    def set(self, lengths: Sequence[int], device: torch.device) -> None:
        """Take the rows of a new batch."""
        if tuple(lengths) == self.lengths:
            return
        self.lengths = tuple(lengths)
        starts = [0]
        for length in lengths:
            starts.append(starts[-1] + length)
        short = sorted((length, start) for length, start in zip(lengths, starts, strict=False) if length <= SHORT)
        self.long = [(start, length) for length, start in zip(lengths, starts, strict=False) if length > SHORT]
        self.groups, places = [], []
        for members in _similar(short):
            group = _group(members)
            places.append(group.take[group.keep])
            self.groups.append(Group(group.rows, group.length, group.take.to(device), group.keep.to(device)))
        places += [torch.arange(start, start + length) for start, length in self.long]
        self.order = torch.argsort(torch.cat(places)).to(device)


def _similar(short: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Runs of (length, start), ascending in length, within which the longest is at most GROWTH times the shortest."""
    runs: list[list[tuple[int, int]]] = []
    for entry in short:
        if not runs or entry[0] > GROWTH * runs[-1][0][0] + 4:
            runs.append([])
        runs[-1].append(entry)
    return runs


def _group(members: list[tuple[int, int]]) -> Group:
    length = members[-1][0]
    column = torch.arange(length)
    lengths = torch.tensor([entry[0] for entry in members])[:, None]
    starts = torch.tensor([entry[1] for entry in members])[:, None]
    take = starts + torch.minimum(column, lengths - 1)
    return Group(len(members), length, take.reshape(-1), (column < lengths).reshape(-1))


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attend_rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    row_bounds: RowBounds | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row.

    query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D]. `attention_mask` is always None here: transformers builds
    none for an implementation it has no mask for. `softcap` follows Gemma 2 (section 2).
    """
    how = _How(dropout, query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    if row_bounds is None or row_bounds.order is None:
        return _one_row(query, key, value, how).transpose(1, 2), None
    flat = [x[0].transpose(0, 1) for x in (query, key, value)]
    parts = []
    for group in row_bounds.groups:
        q, k, v = (x.index_select(0, group.take).view(group.rows, group.length, *x.shape[1:]) for x in flat)
        out = _together(q, k, v, how).flatten(0, 1)
        parts.append(out[group.keep])
    for start, length in row_bounds.long:
        q, k, v = (x.narrow(2, start, length) for x in (query, key, value))
        parts.append(_one_row(q, k, v, how)[0].transpose(0, 1))
    return torch.cat(parts).index_select(0, row_bounds.order)[None], None


@dataclass(frozen=True, slots=True)
class _How:
    dropout: float
    scaling: float
    window: int | None
    softcap: float | None


def _together(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: _How) -> torch.Tensor:
    """[R, L, H, D], [R, L, K, D] twice -> [R, L, H, D] with every product written out."""
    rows, length, heads, size = q.shape
    groups = heads // k.shape[2]
    q = q.view(rows, length, -1, groups, size).permute(0, 2, 3, 1, 4).reshape(rows, -1, groups * length, size)
    k, v = k.permute(0, 2, 3, 1), v.transpose(1, 2)
    scores = (q @ k).view(rows, -1, groups, length, length) * how.scaling
    if how.softcap is not None:
        scores = how.softcap * torch.tanh(scores / how.softcap)
    scores = scores.masked_fill(~_mask(length, how.window, q.device), float("-inf"))
    shares = torch.nn.functional.dropout(scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype), how.dropout)
    out = shares.view(rows, -1, groups * length, length) @ v
    return out.view(rows, -1, groups, length, v.shape[-1]).permute(0, 3, 1, 2, 4).reshape(rows, length, heads, -1)


def _one_row(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: _How) -> torch.Tensor:
    """[1, H, L, D], [1, K, L, D] twice -> [1, H, L, D] by the fused kernel."""
    if how.softcap is not None:
        return _together(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), how).transpose(1, 2)
    length = q.shape[2]
    mask = _mask(length, how.window, q.device) if how.window is not None and length > how.window else None
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=how.dropout, is_causal=mask is None, scale=how.scaling, enable_gqa=True
    )


def _mask(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """[L, L] bool: each place sees itself and those before it, at most `window` in all."""
    place = torch.arange(length, device=device)
    behind = place[:, None] - place[None, :]
    return (behind >= 0) & (behind < (length if window is None else window))
