"""One annotator at work: which row is on screen, and what each key press writes. The terminal and the page share it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sartor.data.annotate.items import Item
from sartor.data.annotate.keys import keys
from sartor.data.annotate.marks import Action, Mark, Ranking, Sheet
from sartor.data.annotate.order import chances
from sartor.data.annotate.queue import Queue
from sartor.data.annotate.workspace import Board, Job

NOTE = 4_000
"""Characters of a note at most."""


class Refused(ValueError):
    """What was asked cannot be done now, in words for the annotator; nothing was written."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a model would answer."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class View:
    """Everything a screen shows."""

    item: Item | None
    """None where nothing is left."""
    done: int
    left: int
    skipped: int
    flagged: bool
    note: str
    suggestion: Suggestion | None
    shuffle: tuple[int, ...]
    """Numbers of the item's answers in the order to show them."""
    votes: tuple[tuple[str, str], ...]
    """In adjudication: what each annotator said."""
    earlier: str
    """The answer this annotator gave to this row before."""
    question: str = ""
    """What is asked of this row, where that is not the same for all."""


@dataclass(slots=True)
class Session:
    """Shows rows one after the other and writes down what is done with them.

    Every method that writes takes the key of the row it is meant for and raises Refused where another is on screen, so that
    a second window cannot answer the wrong row.
    """

    annotator: str
    job: Job
    queue: Queue
    append: Callable[[Mark], None]
    """Writes a mark into this annotator's log; it is on the disk when this returns."""
    board: Board
    """What all have done, this annotator included."""
    probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    votes: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    """Row -> what is asked of it."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Key -> label; digits and letters in the order of the labels where none are given."""
    shuffled: Callable[[Item, str, int], tuple[int, ...]] | None = None
    """Item, annotator and seed -> the order of its answers on screen; `shuffle` where none is given."""
    clock: Callable[[], float] = time.time
    item: Item | None = field(init=False, default=None)
    _since: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.keys = self.keys or keys(self.job.labels)
        self.board.look()
        self._show(self.queue.next())

    @property
    def sheet(self) -> Sheet:
        """What this annotator has done."""
        return self.board.sheets[self.annotator]

    def view(self) -> View:
        """What to show now."""
        sheet, item = self.sheet, self.item
        key = item.key if item else ""
        earlier = sheet.answers.get(key)
        return View(
            item=item,
            done=len(sheet.answers),
            left=len(self.queue.waiting()),
            skipped=len(sheet.skipped),
            flagged=key in sheet.flagged,
            note=sheet.notes.get(key, ""),
            suggestion=self.suggestion(key),
            shuffle=(self.shuffled or shuffle)(item, self.annotator, self.job.seed) if item else (),
            votes=self.votes.get(key, ()),
            earlier=earlier.label or "" if earlier else "",
            question=self.questions.get(key, ""),
        )

    def suggestion(self, row: str) -> Suggestion | None:
        """The label that the model finds most likely, where it was asked about this row."""
        known = self.probabilities.get(row)
        if not known:
            return None
        best = max(known, key=lambda label: known[label])
        return Suggestion(best, known[best])

    def label(self, row: str, label: str) -> None:
        """Answer with a label and go on."""
        if self.job.kind != "label" or label not in self.job.labels:
            raise Refused(f'"{label}" is none of the labels')
        said = self.suggestion(row)
        self._answer(
            row,
            "label",
            label=label,
            order=self.view().shuffle or None,
            suggestion=said.label if said else None,
            followed=said.label == label if said else None,
        )

    def rank(self, row: str, ranking: Ranking) -> None:
        """Answer with a ranking of all answers, worst first, and go on."""
        item = self._current(row)
        placed = sorted(place for level in ranking for place in level)
        if self.job.kind != "rank" or placed != list(range(len(item.answers))) or not all(ranking):
            raise Refused("every answer must be placed once")
        self._answer(row, "rank", ranking=tuple(tuple(sorted(level)) for level in ranking))

    def skip(self, row: str) -> None:
        """Go on without an answer."""
        self._answer(row, "skip")

    def note(self, row: str, text: str) -> None:
        """Keep a remark beside the row; an empty one takes it away."""
        self._current(row)
        self._write(row, "note", note=text.strip()[:NOTE])

    def flag(self, row: str) -> None:
        """Mark the row for somebody to look at, or take the mark away."""
        self._current(row)
        self._write(row, "unflag" if row in self.sheet.flagged else "flag")

    def undo(self) -> None:
        """Take back the last answer or skip, and show its row again. Raises Refused where there is none."""
        if not self.sheet.trail:
            raise Refused("there is nothing to take back")
        last = self.sheet.trail[-1]
        item = self.queue.find(last.row)
        if item is None:
            raise Refused("the last answer is on a row that is not asked here")
        self._write(last.row, "undo", undoes=last.number)
        self._show(item)

    def leave(self) -> None:
        """Put the row on screen back for others."""
        if self.item is not None:
            self._write(self.item.key, "leave")

    def _answer(self, row: str, action: Action, **what: Any) -> None:
        self._current(row)
        self._write(row, action, seconds=round(self.clock() - self._since, 2), **what)
        self.queue.asked(row)
        self.board.look()
        self._show(self.queue.next())

    def _current(self, row: str) -> Item:
        if self.item is None or self.item.key != row:
            raise Refused("another row is on screen by now")
        return self.item

    def _show(self, item: Item | None) -> None:
        self.item, self._since = item, self.clock()
        if item is not None:
            self._write(item.key, "open")

    def _write(self, row: str, action: Action, **what: Any) -> None:
        number = self.sheet.last + 1
        mark = Mark(
            number=number, time=round(self.clock(), 3), annotator=self.annotator, row=row, action=action, **what
        )
        self.append(mark)
        self.board.look()


def shuffle(item: Item, annotator: str, seed: int) -> tuple[int, ...]:
    """The order in which this annotator sees the answers, so that no place on screen favours a model."""
    salt = sum(byte * 257**place for place, byte in enumerate(annotator.encode())) % 2**32
    draws = [int(chances([item], seed + 1009 * (number + 1) + salt)[0]) for number in range(len(item.answers))]
    return tuple(sorted(range(len(draws)), key=lambda number: draws[number]))
