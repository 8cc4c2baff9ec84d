"""Does a cleaning again, with some of its decisions taken back and some of its suggestions taken up.

Stages that look at one row at a time are run again, so that a row from which one change is taken back is what it would be had
that stage not been there. What stages decided that looked at all rows is not decided anew but as it was written down; a text
that such a stage changed stays as that stage left it, whatever is taken back before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sartor import registry
from sartor.data.cleaning import sees_all, settle
from sartor.data.ledger import CHANGED, REMOVED, SUGGESTED, Ledger, Step, entries, with_values
from sartor.data.outcome import Cleaner, Drop, Outcome, Remark, Suggestion
from sartor.data.rows import Origin, Row
from sartor.recipe.schema import Component


@dataclass(frozen=True, slots=True)
class Rule:
    """What is taken back or up: every decision that fits. Of several rules that fit, the last one counts."""

    do: Literal["restore", "accept"]
    stage: str | None = None
    """Decisions of this stage only."""
    row: str | None = None
    """Decisions about this row only, as file:line."""

    def fits(self, stage: str, row: Row) -> bool:
        """Whether a decision of this stage about this row is meant."""
        return self.stage in (None, stage) and self.row in (None, str(row.origin))


def replay(
    rows: Iterable[Row], stages: Sequence[Component], recorded: Path, rules: Sequence[Rule], ledger: Ledger
) -> Iterator[Row | None]:
    """Each row as it is in the end, None for one that is left out. `recorded` holds the files of the first ledger."""
    again = [_Again(stage, step, recorded) for stage, step in zip(stages, ledger.steps, strict=True)]
    for original in rows:
        row: Row | None = original
        for each in again:
            outcome = each.outcome(original.origin, row)
            if row is None or outcome is None:
                continue
            each.step.rows += 1
            row = settle(row, _ruled(row, outcome, each.step.stage, rules), each.step, ledger)
        yield row


def _ruled(row: Row, outcome: Outcome, stage: str, rules: Sequence[Rule]) -> Outcome:
    """The outcome that the rules leave."""
    if outcome is row or isinstance(outcome, Remark):
        return outcome
    last = next((rule.do for rule in reversed(rules) if rule.fits(stage, row)), None)
    if isinstance(outcome, Suggestion):
        return outcome.row if last == "accept" else outcome
    return row if last == "restore" else outcome


class _Again:
    """One stage, done again or read from the record."""

    def __init__(self, stage: Component, step: Step, recorded: Path) -> None:
        self.step = step
        self._clean: Cleaner | None = None
        self._recorded: list[_Record] = []
        if sees_all(stage):
            self._recorded = [_Record(recorded / name, step.number) for name in (REMOVED, CHANGED, SUGGESTED)]
        else:
            self._clean = registry.component("stage", stage.name).cleaner(stage.options)

    def outcome(self, origin: Origin, row: Row | None) -> Outcome | None:
        """What the stage does to the row that was read at `origin`; None for one that is gone, whose records are passed over."""
        told = [record.take(origin) for record in self._recorded]
        if row is None:
            return None
        if self._clean is not None:
            return self._clean(row)
        removed, changed, suggested = told
        if removed is not None:
            other = removed.get("because_of")
            return Drop(removed["reason"], because_of=None if other is None else _origin(other))
        if changed is not None:
            return with_values(row, changed["after"])
        if suggested is not None:
            return Suggestion(with_values(row, suggested["after"]), suggested["what"])
        return row


def _origin(written: str) -> Origin:
    file, _, line = written.rpartition(":")
    return Origin(file, int(line))


class _Record:
    """What one stage wrote into one file, in the order of the rows."""

    def __init__(self, path: Path, number: int) -> None:
        self._entries = (entry for entry in entries(path) if entry["step"] == number)
        self._next: Mapping[str, Any] | None = next(self._entries, None)

    def take(self, origin: Origin) -> Mapping[str, Any] | None:
        """What was written about this row, if anything."""
        entry = self._next
        if entry is None or (entry["file"], entry["line"]) != (origin.file, origin.line):
            return None
        self._next = next(self._entries, None)
        return entry
