"""The next row for one annotator, while others work on the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sartor.data.annotate.items import Item
from sartor.data.annotate.workspace import Board

CLAIM = 900.0
"""Seconds for which a row on somebody's screen is left to them."""


class Queue:
    """Rows in the order to ask them.

    A row of `shared` is for every annotator; any other is for whoever comes first. With `disagreed_first`, shared rows on
    which others disagree come before all others.
    """

    def __init__(
        self,
        items: Sequence[Item],
        order: Sequence[int],
        shared: frozenset[str],
        board: Board,
        annotator: str,
        *,
        disagreed_first: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._items = [items[place] for place in order]
        self._shared, self._board, self._me, self._clock = shared, board, annotator, clock
        self._disagreed_first = disagreed_first
        self._again: set[str] = set()

    def again(self) -> None:
        """Ask once more for the rows that were skipped before."""
        self._again |= self._board.sheets[self._me].skipped

    def asked(self, row: str) -> None:
        """A row that was to be asked once more has been."""
        self._again.discard(row)

    def find(self, row: str) -> Item | None:
        """The row with this key, whether it is still to be asked or not."""
        return next((item for item in self._items if item.key == row), None)

    def next(self) -> Item | None:
        """The row to show, or None where nothing is left for this annotator."""
        waiting = self.waiting()
        if self._disagreed_first:
            for item in waiting:
                if item.key in self._shared and self._disagreed(item.key):
                    return item
        return next(iter(waiting), None)

    def waiting(self) -> list[Item]:
        """The rows still to be shown, in order."""
        mine = self._board.sheets[self._me]
        done = mine.answers.keys() | (mine.skipped - self._again)
        taken = self._taken()
        return [item for item in self._items if item.key not in done and item.key not in taken]

    def _taken(self) -> set[str]:
        """Rows that others have answered or are looking at, less those that everybody gets."""
        taken: set[str] = set()
        now = self._clock()
        for name, sheet in self._board.sheets.items():
            if name == self._me:
                continue
            taken |= sheet.answers.keys()
            if sheet.open is not None and now - sheet.open.time < CLAIM and sheet.open.row not in sheet.skipped:
                taken.add(sheet.open.row)
        return taken - self._shared

    def _disagreed(self, row: str) -> bool:
        others = [mark for name, mark in self._board.answers(row).items() if name != self._me]
        return len({(mark.label, mark.ranking) for mark in others}) > 1
