"""Runs the stages of `data.clean` in their order over all rows, and has every decision written down."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor import registry
from sartor.data.dataset import Dataset
from sartor.data.ledger import Ledger, Step
from sartor.data.outcome import Drop, Outcome, Remark, Suggestion
from sartor.data.rows import Example, Judged, Message, Preference, Ranking, Row, Text
from sartor.events import Event, Progressed
from sartor.recipe.schema import Component

Emit = Callable[[Event], None]
Roles = NDArray[np.int8]
"""[n] the number of the part that the user gave each row, -1 for none."""
Placed = tuple[Row, int]
"""A row and its role."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Rows that have been read and have passed the first stages elsewhere (`data/pieces.py`)."""

    folder: Path
    """A sealed data set, and what of the ledger there is to tell."""
    role: int
    """That of all of them."""
    steps: Sequence[Mapping[str, Any]]
    """What each of those stages did to them."""


Flow = Iterable[Placed | Ready]
EMPTIED = "nothing is left of a text that the model should learn"


def spool(rows: Flow, stages: Sequence[Component], folder: Path, emit: Emit) -> tuple[Dataset, Roles, list[Step]]:
    """Clean the rows and write them into `folder`, beside the record of what was done.

    Stages that see one row at a time run one behind the other while the rows pass; before a stage that needs all rows, and
    after it, the rows lie on disk. Memory holds what the stages hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Ledger(folder, [stage.name for stage in stages]) as ledger:
        waiting = list(zip(stages, ledger.steps, strict=True))
        place = _place(folder, 0, waiting)
        dataset, roles = _written(passed(rows, waiting, ledger), place, ledger)
        number = 0
        while waiting:
            number, before = number + 1, place
            settled = _all_together(dataset, roles, *waiting.pop(0), ledger, emit)
            place = _place(folder, number, waiting)
            if waiting and not sees_all(waiting[0][0]):
                flow = _placed(dataset, roles, settled)
                dataset, roles = _written(passed(flow, waiting, ledger), place, ledger)
            else:
                dataset, kept = dataset.revised(settled, place)
                roles = roles[kept]
            shutil.rmtree(before)
        return dataset, roles, ledger.steps


def _place(folder: Path, number: int, waiting: Sequence[tuple[Component, Step]]) -> Path:
    """Where the rows lie before the next stage that sees them all, or in the end."""
    return folder / f"clean-{number}" if any(sees_all(stage) for stage, _ in waiting) else folder


def leading(stages: Sequence[Component]) -> list[Component]:
    """The first stages, as far as they see one row at a time."""
    return list(takewhile(lambda stage: not sees_all(stage), stages))


def passed(rows: Flow, waiting: list[tuple[Component, Step]], ledger: Ledger) -> Flow:
    """The rows after the next stages that see one at a time, which wait no more."""
    while waiting and not sees_all(waiting[0][0]):
        rows = _one_by_one(rows, *waiting.pop(0), ledger)
    return rows


def sees_all(stage: Component) -> bool:
    """Whether the stage decides about all rows together."""
    return hasattr(registry.component("stage", stage.name), "decide")


def _written(rows: Flow, folder: Path, ledger: Ledger) -> tuple[Dataset, Roles]:
    roles = array("b")

    def noted() -> Iterator[Row | Dataset]:
        for item in rows:
            if isinstance(item, Ready):
                part = Dataset.open_shingled(item.folder)
                ledger.take(item.folder, item.steps)
                roles.extend([item.role] * len(part))
                yield part
                shutil.rmtree(item.folder)
            else:
                row, role = item
                roles.append(role)
                yield row

    dataset = Dataset.write_shingled(noted(), folder)
    return dataset, np.frombuffer(roles, np.int8)


def _one_by_one(rows: Flow, stage: Component, step: Step, ledger: Ledger) -> Iterator[Placed | Ready]:
    clean = registry.component("stage", stage.name).cleaner(stage.options)
    for item in rows:
        if isinstance(item, Ready):
            yield item
            continue
        row, role = item
        step.rows += 1
        kept = settle(row, clean(row), step, ledger)
        if kept is not None:
            yield kept, role


def _all_together(
    dataset: Dataset, roles: Roles, stage: Component, step: Step, ledger: Ledger, emit: Emit
) -> Iterator[tuple[int, Row | None]]:
    """The rows that do not stay as they are."""

    def seen(done: int) -> None:
        emit(Progressed(f"cleaning: {stage.name}", done, len(dataset)))

    decided = registry.component("stage", stage.name).decide(dataset, roles, stage.options, seen)
    step.rows = len(dataset)
    for number, outcome in decided:
        row = dataset[number]
        kept = settle(row, outcome, step, ledger)
        if kept is not row:
            yield number, kept


def _placed(dataset: Dataset, roles: Roles, settled: Iterator[tuple[int, Row | None]]) -> Iterator[Placed]:
    nobody: tuple[int, Row | None] = (-1, None)
    at, settled_as = next(settled, nobody)
    for number, row in enumerate(dataset):
        kept: Row | None = row
        if number == at:
            kept = settled_as
            at, settled_as = next(settled, nobody)
        if kept is not None:
            yield kept, int(roles[number])


def settle(row: Row, outcome: Outcome, step: Step, ledger: Ledger) -> Row | None:
    """The row that goes on, after its fate has been written down."""
    if outcome is row:
        return row
    if isinstance(outcome, Remark):
        ledger.remark(step, outcome)
        return row
    if isinstance(outcome, Suggestion):
        ledger.suggest(step, row, outcome)
        return row
    if isinstance(outcome, Row) and _emptied(row, outcome):
        outcome = Drop(EMPTIED)
    if isinstance(outcome, Drop):
        ledger.drop(step, row, outcome)
        return None
    ledger.change(step, row, outcome)
    return outcome


def _emptied(before: Row, after: Row) -> bool:
    """Whether a text that is learnt, or all that is asked, has become blank."""
    pairs = zip(_needed(before), _needed(after), strict=True)
    return any(old.strip() and not new.strip() for old, new in pairs)


def _needed(row: Row) -> list[str]:
    match row:
        case Example():
            learnt = [_words(turn) for turn in row.messages if turn.role == "assistant"]
        case Text():
            learnt = [row.text]
        case Preference():
            learnt = [_words(turn) for turn in (*row.chosen, *row.rejected)]
        case Judged():
            learnt = [_words(turn) for turn in row.completion]
        case Ranking():
            learnt = [_words(turn) for turns in row.answers for turn in turns]
        case _:
            learnt = []
    return [*learnt, row.prompt_text()]


def _words(turn: Message) -> str:
    return turn.content if not turn.tool_calls else turn.content or "call"
