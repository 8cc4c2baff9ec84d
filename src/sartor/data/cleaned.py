"""A folder with cleaned data: what came out, what was done to which row, and all that it takes to have any of it back.

DIR/
  rows.jsonl        what is left, in the columns it had, or as messages where it had several forms
  dropped.jsonl     each row that was left out: the rule, the reason, the whole row
  changed.jsonl     each change: what was there before, what is there now
  suggested.jsonl   each change that a person may want
  summary.json      the counts of every stage
  .sartor/          the rows as they were read, the decisions, what was taken back since
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

from sartor.data.dataset import Dataset
from sartor.data.ledger import CHANGED, REMOVED, SUGGESTED, Ledger, Step, entries
from sartor.data.recognition import Shape
from sartor.data.replay import Rule, replay
from sartor.data.rows import Row, row_from_json
from sartor.data.writing import as_ours, as_read
from sartor.errors import DataError, Problem
from sartor.recipe.schema import Component, Of

ROWS, DROPPED, SUMMARY = "rows.jsonl", "dropped.jsonl", "summary.json"
STATE = ".sartor"
SETTINGS, ORIGINALS, RECORDED, UNREAD = "settings.json", "originals.jsonl", "recorded", "unread.jsonl"
OURS = ".ours.jsonl"
EVERY = 1000
Seen = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Original:
    """A row as it was read."""

    row: Row
    record: Mapping[str, Any]
    """The user's record, from which the row was made."""

    def json(self) -> str:
        """One line."""
        return json.dumps({"row": self.row.to_json(), "record": self.record}, ensure_ascii=False, default=vars) + "\n"


@dataclass(frozen=True, slots=True)
class Form:
    """How the records of a file are written."""

    format: str
    map: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a folder with cleaned data was made of, and what was taken back since."""

    stages: tuple[Component, ...]
    forms: Mapping[str, Form]
    """File -> how its records are written."""
    rules: tuple[Rule, ...] = ()

    def json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` rebuilds it."""
        return {
            "version": 1,
            "stages": [stage.model_dump(mode="json") for stage in self.stages],
            "forms": {file: asdict(form) for file, form in self.forms.items()},
            "rules": [asdict(rule) for rule in self.rules],
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `json`."""
        return cls(
            tuple(Of("stage").validate(stage) for stage in body["stages"]),
            {file: Form(**form) for file, form in body["forms"].items()},
            tuple(Rule(**rule) for rule in body["rules"]),
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What lies in the folder now."""

    read: int
    kept: int
    unread: int
    form: str
    """as read, or ours: messages, text, prompt/chosen/rejected."""
    steps: tuple[Step, ...]

    def json(self) -> dict[str, Any]:
        """As summary.json holds it."""
        return {
            "rows": self.read,
            "kept": self.kept,
            "unread": self.unread,
            "form": self.form,
            "stages": [asdict(step) for step in self.steps],
        }


@contextmanager
def recorder(folder: Path) -> Iterator[Callable[[Original], None]]:
    """Gives a function that writes a row into the state of the folder."""
    (folder / STATE / RECORDED).mkdir(parents=True, exist_ok=True)
    with (folder / STATE / ORIGINALS).open("w", encoding="utf-8") as file:
        yield lambda original: file.writelines([original.json()])


def originals(folder: Path) -> Iterator[Original]:
    """The rows as they were read."""
    for entry in entries(folder / STATE / ORIGINALS):
        yield Original(row_from_json(entry["row"]), entry["record"])


def write_first(
    folder: Path,
    settings: Settings,
    dataset: Dataset,
    steps: Sequence[Step],
    unread: Iterable[Mapping[str, Any]],
    seen: Seen,
) -> Written:
    """Fill a folder that holds the originals, and in `recorded` the ledger, with what came out of cleaning."""
    recorded = folder / STATE / RECORDED
    lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in unread]
    (folder / STATE / UNREAD).write_text("".join(lines), encoding="utf-8")
    (folder / STATE / SETTINGS).write_text(json.dumps(settings.json(), ensure_ascii=False, indent=1), encoding="utf-8")
    return _write(folder, folder, settings, _finals(folder, dataset), steps, recorded, seen)


def open_settings(folder: Path) -> Settings:
    """How the folder was made. Raises DataError D189 for one that `sartor data clean` did not write."""
    try:
        return Settings.from_json(json.loads((folder / STATE / SETTINGS).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as fault:
        what = "this is no folder that sartor data clean wrote"
        raise DataError(Problem("D189", what, file=str(folder), fix="name the folder given by --out")) from fault


def apply_rules(folder: Path, rules: Sequence[Rule], seen: Seen) -> Written:
    """Write the folder anew with these rules after those given before. Raises DataError D189."""
    before = open_settings(folder)
    settings = replace(before, rules=(*before.rules, *rules))
    state = folder / STATE
    work = state / ".new"
    work.mkdir(exist_ok=True)
    for path in work.iterdir():
        path.unlink()
    rows = (original.row for original in originals(folder))
    with Ledger(work, [stage.name for stage in settings.stages]) as ledger:
        finals = replay(rows, settings.stages, state / RECORDED, settings.rules, ledger)
        kept = work / ".finals.jsonl"
        with kept.open("w", encoding="utf-8") as file:
            for row in finals:
                file.write(json.dumps(None if row is None else row.to_json(), ensure_ascii=False, default=vars) + "\n")
    written = _write(folder, work, settings, _spooled(kept), ledger.steps, work, seen)
    kept.unlink()
    (work / REMOVED).unlink(missing_ok=True)
    for name in (ROWS, DROPPED, CHANGED, SUGGESTED, SUMMARY):
        os.replace(work / name, folder / name)
    (work / SETTINGS).write_text(json.dumps(settings.json(), ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(work / SETTINGS, state / SETTINGS)
    work.rmdir()
    return written


def _spooled(path: Path) -> Iterator[Row | None]:
    for body in entries(path):
        yield None if body is None else row_from_json(body)


def _finals(folder: Path, dataset: Dataset) -> Iterator[Row | None]:
    """For each original, the row that came out, or None."""
    left = iter(dataset)
    row = next(left, None)
    for original in originals(folder):
        if row is None or row.origin != original.row.origin:
            yield None
            continue
        yield replace(row, id=original.row.id)
        row = next(left, None)


def _write(
    folder: Path,
    target: Path,
    settings: Settings,
    finals: Iterator[Row | None],
    steps: Sequence[Step],
    ledger: Path,
    seen: Seen,
) -> Written:
    """Write what people read into `target`; `folder` holds the originals, `ledger` what was done."""
    shapes = {file: Shape(form.format, form.map, automatic=False) for file, form in settings.forms.items()}
    one_form = len({(form.format, tuple(sorted(form.map.items()))) for form in settings.forms.values()}) == 1
    read = kept = 0
    with (target / ROWS).open("w", encoding="utf-8") as plain, (target / OURS).open("w", encoding="utf-8") as ours:
        for original, row in zip(originals(folder), finals, strict=True):
            read += 1
            if read % EVERY == 0:
                seen(read)
            if row is None:
                continue
            kept += 1
            record = None
            if one_form:
                record = as_read(original.record, original.row, row, shapes[row.origin.file])
            one_form = record is not None
            if one_form:
                plain.write(json.dumps(record, ensure_ascii=False) + "\n")
            ours.write(json.dumps(as_ours(row), ensure_ascii=False, default=vars) + "\n")
    if one_form:
        (target / OURS).unlink()
    else:
        os.replace(target / OURS, target / ROWS)
    unread = list(entries(folder / STATE / UNREAD))
    with (target / DROPPED).open("w", encoding="utf-8") as file:
        for entry in chain(unread, entries(ledger / REMOVED)):
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    for name in (CHANGED, SUGGESTED):
        if ledger != target:
            (target / name).write_bytes((ledger / name).read_bytes() if (ledger / name).exists() else b"")
        else:
            (target / name).touch()
    written = Written(read, kept, len(unread), "as read" if one_form else "ours", tuple(steps))
    (target / SUMMARY).write_text(json.dumps(written.json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return written
