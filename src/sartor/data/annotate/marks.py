"""What annotators did, one mark each, and what the marks of one annotator add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Action = Literal["open", "label", "rank", "skip", "note", "flag", "unflag", "undo", "leave"]
ACTIONS: tuple[str, ...] = ("open", "label", "rank", "skip", "note", "flag", "unflag", "undo", "leave")
Ranking = tuple[tuple[int, ...], ...]
"""Numbers of the answers in the order of the file, from 0; worst first, equally good ones together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One line of an annotator's log."""

    number: int
    """Counted from 1 in this log."""
    time: float
    """Seconds since 1970."""
    annotator: str
    row: str
    """Key of the item."""
    action: Action
    label: str | None = None
    ranking: Ranking | None = None
    note: str | None = None
    order: tuple[int, ...] | None = None
    """Where a label was given to answers: their numbers as they stood on screen, from the left."""
    suggestion: str | None = None
    """What a model had suggested, on screen when the answer was given."""
    followed: bool | None = None
    """Whether the answer is that suggestion."""
    seconds: float | None = None
    """From showing to answering."""
    undoes: int | None = None
    """Number of the mark that this one takes back."""

    def json(self) -> dict[str, Any]:
        """A JSON object without what is not there."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of_json(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `json`. Raises TypeError, KeyError or ValueError for anything else."""
        given = dict(body)
        if given["action"] not in ACTIONS or not isinstance(given["row"], str):
            raise ValueError("no mark")
        if "ranking" in given:
            given["ranking"] = tuple(tuple(int(place) for place in level) for level in given["ranking"])
        if "order" in given:
            given["order"] = tuple(int(number) for number in given["order"])
        return cls(**given)


@dataclass(slots=True)
class Sheet:
    """What one annotator's marks add up to."""

    answers: dict[str, Mark] = field(default_factory=dict)
    """Row -> its latest label or ranking that was not taken back."""
    skipped: set[str] = field(default_factory=set)
    flagged: set[str] = field(default_factory=set)
    notes: dict[str, str] = field(default_factory=dict)
    open: Mark | None = None
    """The row on screen."""
    trail: list[Mark] = field(default_factory=list)
    """Labels, rankings and skips that were not taken back, in order."""
    of_row: dict[str, list[Mark]] = field(default_factory=dict)
    """The same by row."""
    last: int = 0
    """Number of the last mark."""

    @classmethod
    def of(cls, marks: Iterable[Mark]) -> Self:
        """The sum of all marks, in order."""
        sheet = cls()
        for mark in marks:
            sheet.see(mark)
        return sheet

    def see(self, mark: Mark) -> None:
        """Take in one further mark."""
        self.last = mark.number
        match mark.action:
            case "open" | "leave":
                self.open = mark if mark.action == "open" else None
            case "label" | "rank" | "skip":
                self.trail.append(mark)
                self.of_row.setdefault(mark.row, []).append(mark)
                self._settle(mark.row)
            case "undo":
                self.trail = _without(self.trail, mark.undoes)
                self.of_row[mark.row] = _without(self.of_row.get(mark.row, []), mark.undoes)
                self._settle(mark.row)
            case "note":
                self.notes[mark.row] = mark.note or ""
                if not mark.note:
                    del self.notes[mark.row]
            case "flag":
                self.flagged.add(mark.row)
            case "unflag":
                self.flagged.discard(mark.row)

    def _settle(self, row: str) -> None:
        """What holds for a row is its latest mark; a skip takes no earlier answer back."""
        marks = self.of_row[row]
        answer = next((mark for mark in reversed(marks) if mark.action != "skip"), None)
        self.answers.pop(row, None)
        self.skipped.discard(row)
        if answer is not None:
            self.answers[row] = answer
        elif marks:
            self.skipped.add(row)


def _without(marks: list[Mark], number: int | None) -> list[Mark]:
    """The marks less the one of this number, which is the last one as a rule."""
    if marks and marks[-1].number == number:
        del marks[-1]
        return marks
    return [mark for mark in marks if mark.number != number]
