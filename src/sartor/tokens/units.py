"""What an optimiser step is counted in: single rows, or the renderings of one row that have to stay together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sartor.tokens.prefix import share

if TYPE_CHECKING:
    from sartor.tokens.batch import Rendered
    from sartor.tokens.store import TokenRows


class Units:
    """A sequence of lists of rows.

    Args:
        rows: the tokenised rows.
        together: whether neighbours that come from one row of the data set are one unit, as two answers to compare are.
    """

    def __init__(self, rows: TokenRows, *, together: bool = False) -> None:
        self._rows, self.together = rows, together
        changes = np.flatnonzero(np.diff(rows.rows, prepend=-1)) if together else np.arange(len(rows))
        self._ends = np.append(changes[1:], len(rows)) if len(rows) else changes
        self._starts = changes
        self.lengths: np.ndarray = np.add.reduceat(rows.lengths, changes) if len(rows) else rows.lengths
        """[units] int64, tokens of each unit."""
        self.rows: np.ndarray = rows.rows[changes]
        """[units] int64, index of each in the data set."""

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> list[Rendered]:
        return [self._rows[place] for place in range(int(self._starts[index]), int(self._ends[index]))]


def cost(unit: Sequence[Rendered], *, shared: bool) -> int:
    """Tokens that are computed for a unit, those that its rows begin with only once if they are `shared`."""
    if shared and len(unit) > 1:
        return share([row.ids for row in unit]).tokens
    return sum(map(len, unit))
