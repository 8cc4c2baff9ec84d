"""Rows side by side, padded on the right, for models whose own forward pass wants them so.

Rows of like length go together, so that little padding is computed. R: rows of one side, L: their padded length, T: tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from sartor.models.base import ModelPolicy

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

SLACK = 256
"""Tokens of padding that cost less than another pass,"""
PART = 8
"""or one in so many of those computed."""


@dataclass(frozen=True, slots=True)
class Side:
    """Some rows that go through the model together."""

    rows: tuple[int, ...]
    """Which of the batch"""
    ids: torch.Tensor
    """[R, L] int64"""
    mask: torch.Tensor
    """[R, L] int64, 1 where there is a token"""
    take: torch.Tensor
    """Places in R * L of the tokens, row after row"""


def groups(lengths: Sequence[int]) -> list[list[int]]:
    """Rows in groups of like length, longest first."""
    made: list[list[int]] = []
    filling = tokens = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        longest = lengths[made[-1][0]] if made else 0
        filling, tokens = filling + longest - lengths[row], tokens + longest
        if not made or filling > max(SLACK, tokens // PART):
            made.append([])
            filling, tokens = 0, lengths[row]
        made[-1].append(row)
    return made


def side_by_side(flat: torch.Tensor, starts: Sequence[int], lengths: Sequence[int], fill: int) -> torch.Tensor:
    """[T] -> [R, L]: stretches of `flat` as rows, `fill` behind the shorter ones."""
    column = torch.arange(max(lengths, default=0))
    begin, length = torch.tensor(starts)[:, None], torch.tensor(lengths)[:, None]
    place = (begin + torch.minimum(column, (length - 1).clamp_min(0))).to(flat.device)
    return flat[place].masked_fill((column >= length).to(flat.device), fill)


class Padded:
    """The rows of a batch in sides.

    Args:
        flat: [T] ids of all rows end to end.
        lengths: tokens of each row.
        fill: what padding is made of.
        apart: every row is a side of its own.
    """

    def __init__(self, flat: torch.Tensor, lengths: Sequence[int], fill: int, *, apart: bool = False) -> None:
        starts = [0, *accumulate(lengths)]
        self.sides: list[Side] = []
        order: list[int] = []
        for rows in [[row] for row in range(len(lengths))] if apart else groups(lengths):
            own = [lengths[row] for row in rows]
            ids = side_by_side(flat, [starts[row] for row in rows], own, fill)
            mask = (torch.arange(ids.shape[1]) < torch.tensor(own)[:, None]).to(torch.int64)
            take = mask.reshape(-1).nonzero()[:, 0]
            self.sides.append(Side(tuple(rows), ids, mask.to(flat.device), take.to(flat.device)))
            order += rows
        places = torch.cat([torch.arange(starts[row], starts[row + 1]) for row in order])
        self._tokens = torch.argsort(places).to(flat.device)
        self._rows = torch.argsort(torch.tensor(order)).to(flat.device)

    def tokens(self, run: Callable[[Side], torch.Tensor]) -> torch.Tensor:
        """[T, ...] what `run` gives for each side, [R, L, ...], for every token in the batch's order."""
        found = [run(side).flatten(0, 1)[side.take] for side in self.sides]
        return torch.cat(found)[self._tokens]

    def rows(self, run: Callable[[Side], torch.Tensor]) -> torch.Tensor:
        """[rows, ...] what `run` gives for each side, [R, ...], in the batch's order."""
        return torch.cat([run(side) for side in self.sides])[self._rows]


def whole_rows(continues: Sequence[int]) -> None:
    """Raises ValueError where rows share their beginnings, which only a decoder can."""
    if any(segment >= 0 for segment in continues):
        raise ValueError("only a decoder can share the beginnings of rows; give this model whole rows")


class Reader:
    """Catches what the output head of a model reads, which then computes nothing of its own.

    Raises RuntimeError from `read` where the model does not go through the layer.
    """

    def __init__(self, head: torch.nn.Module) -> None:
        self._head, self._kept = head, list[torch.Tensor]()

    def _keep(self, _: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        self._kept.append(arguments[0])
        return (arguments[0][:, :0], *arguments[1:])

    def read(self, run: Callable[[], object]) -> torch.Tensor:
        """[R, L, H] what goes into the head while `run` runs."""
        handle = self._head.register_forward_pre_hook(self._keep)
        try:
            run()
        finally:
            handle.remove()
        if len(self._kept) != 1:
            raise RuntimeError("the model's logits do not come from its output layer")
        return self._kept[0]


class Caught:
    """Catches the last hidden states that a trunk gives."""

    def __init__(self, trunk: torch.nn.Module) -> None:
        self._trunk, self._kept = trunk, list[torch.Tensor]()

    def states(self, run: Callable[[], object]) -> torch.Tensor:
        """[R, L, H] what the trunk gives while `run` runs."""
        handle = self._trunk.register_forward_hook(lambda _, __, out: self._kept.append(out.last_hidden_state))
        try:
            run()
        finally:
            handle.remove()
        return self._kept[0]


class PaddedPolicy(ModelPolicy):
    """What policies that lay rows side by side have in common."""

    def _padded(self, batch: Batch) -> Padded:
        whole_rows(batch.continues)
        return Padded(batch.ids[0], batch.lengths, self.pad, apart=not self.exact.packs)

    def _inputs(self, side: Side) -> dict[str, torch.Tensor]:
        """What the model's forward pass is called with."""
        return {"input_ids": side.ids, "attention_mask": side.mask}

    def _own(self, side: Side) -> torch.Tensor:
        """The model's own logits of a side."""
        logits: torch.Tensor = self.model(**self._inputs(side)).logits
        return logits

    def _score(self, batch: Batch) -> torch.Tensor:
        assert self.head is not None
        padded = self._padded(batch)
        return padded.tokens(self._own) if self.head.place == "tokens" else padded.rows(self._own)
