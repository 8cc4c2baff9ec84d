"""Prompts with an answer that belongs to another row: what the drift of a model is estimated on (see `objectives/kto.py`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from sartor.tokens.batch import Rendered

TRIES = 16
"""Rows that are looked at for one whose answer is another one and fits."""


class Rows(Protocol):
    """Renderings by place, those of one row of the data set next to each other."""

    @property
    def rows(self) -> np.ndarray:
        """[n] int64, row of the data set of each."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Rendered: ...


class Mismatched:
    """Implements `Rows`: those of a token set, each with the next answer that says something else.

    Args:
        rows: the tokenised rows.
        max_tokens: longest row; where no answer fits, the beginning of the prompt is left out.
    """

    def __init__(self, rows: Rows, max_tokens: int) -> None:
        self._rows, self._most = rows, max_tokens
        self.rows = rows.rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Rendered:
        own = self._rows[index]
        begin = _begin(own)
        said = own.ids[begin:]
        other, start = own, begin
        for step in range(1, min(TRIES, len(self) - 1) + 1):
            near = self._rows[(index + step) % len(self)]
            first = _begin(near)
            if near.row == own.row or np.array_equal(near.ids[first:], said):
                continue
            if other is own or begin + len(near) - first <= self._most:
                other, start = near, first
            if begin + len(other) - start <= self._most:
                break
        ids = np.concatenate([own.ids[:begin], other.ids[start:]])
        weight = np.concatenate([own.weight[:begin], other.weight[start:]])
        cut = max(0, len(ids) - self._most)
        return replace(own, ids=ids[cut:], weight=weight[cut:])


def _begin(row: Rendered) -> int:
    """Where the answer of a row begins."""
    return int(np.flatnonzero(row.weight)[0])
