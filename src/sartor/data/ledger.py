"""Writes down what cleaning did to every row, so that each decision can be seen, counted and undone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from sartor.data.outcome import Drop, Remark, Suggestion
from sartor.data.rows import Row, row_from_json

REMOVED, CHANGED, SUGGESTED = ".removed.jsonl", "changed.jsonl", "suggested.jsonl"
FILES = (REMOVED, CHANGED, SUGGESTED)
SHOWN = 3
"""Examples kept of each step."""


@dataclass(slots=True)
class Step:
    """One stage of a recipe's `data.clean`, and what it did."""

    number: int
    """Counted from 0, in the order of the recipe."""
    stage: str
    rows: int = 0
    """Rows that came in."""
    changed: int = 0
    dropped: int = 0
    suggested: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    """Rows dropped, by reason; what was suggested, by what."""
    remarks: dict[str, int] = field(default_factory=dict)
    """Rows that stayed because something could not be told about them, by what."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    """The first changes as `{"row", "before", "after"}`, what differs by its path."""

    @property
    def left(self) -> int:
        """Rows that went on."""
        return self.rows - self.dropped


class Ledger:
    """Takes every outcome that is not the row as it was; a file is there where something is in it. Close it by `with`."""

    def __init__(self, folder: Path, stages: list[str]) -> None:
        self.steps = [Step(number, stage) for number, stage in enumerate(stages)]
        self._folder = folder
        self._files: dict[str, TextIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def drop(self, step: Step, row: Row, outcome: Drop) -> None:
        """A row was left out. Its whole record is kept."""
        step.dropped += 1
        step.reasons[outcome.reason] = step.reasons.get(outcome.reason, 0) + 1
        because = {} if outcome.because_of is None else {"because_of": str(outcome.because_of)}
        self._write(
            REMOVED, row, step, rule=f"clean.{step.stage}", reason=outcome.reason, **because, record=row.to_json()
        )

    def change(self, step: Step, before: Row, after: Row) -> None:
        """A row was changed. What differs is kept as it was and as it is."""
        step.changed += 1
        old, new = difference(before, after)
        if len(step.examples) < SHOWN:
            step.examples.append({"row": str(before.origin), "before": old, "after": new})
        self._write(CHANGED, before, step, before=old, after=new)

    def suggest(self, step: Step, row: Row, outcome: Suggestion) -> None:
        """A row could be changed; it stays."""
        step.suggested += 1
        step.reasons[outcome.what] = step.reasons.get(outcome.what, 0) + 1
        old, new = difference(row, outcome.row)
        if len(step.examples) < SHOWN:
            step.examples.append({"row": str(row.origin), "before": old, "after": new})
        self._write(SUGGESTED, row, step, what=outcome.what, before=old, after=new)

    def take(self, folder: Path, steps: Sequence[Mapping[str, Any]]) -> None:
        """What other ledgers of the same stages, closed, have noted in `folder`; `steps` are theirs as objects."""
        for mine, other in zip(self.steps, (Step(**each) for each in steps), strict=False):
            mine.rows += other.rows
            mine.changed += other.changed
            mine.dropped += other.dropped
            mine.suggested += other.suggested
            for counts, more in ((mine.reasons, other.reasons), (mine.remarks, other.remarks)):
                for what, count in more.items():
                    counts[what] = counts.get(what, 0) + count
            mine.examples += other.examples[: SHOWN - len(mine.examples)]
        for name in FILES:
            if (folder / name).exists():
                with (folder / name).open(encoding="utf-8") as file:
                    shutil.copyfileobj(file, self._file(name))

    @staticmethod
    def remark(step: Step, outcome: Remark) -> None:
        """A row stayed, with something to say about it."""
        step.remarks[outcome.what] = step.remarks.get(outcome.what, 0) + 1

    def _write(self, name: str, row: Row, step: Step, **facts: Any) -> None:
        head = {"row": row.id or str(row.origin), "file": row.origin.file, "line": row.origin.line}
        entry = {**head, "step": step.number, "stage": step.stage, **facts}
        self._file(name).write(json.dumps(entry, ensure_ascii=False, default=vars) + "\n")

    def _file(self, name: str) -> TextIO:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("w", encoding="utf-8")
        return self._files[name]


def difference(before: Row, after: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of a row differs, as it was and as it is, by path: `{"messages.1.content": ...}`; in names, `~1` is a dot, `~0` is `~`."""
    pairs = list(_different(before.to_json(), after.to_json(), ""))
    return {path: old for path, old, _ in pairs}, {path: new for path, _, new in pairs}


def _different(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if old == new:
        return
    steps: Iterable[Any] = ()
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        steps = old
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        steps = range(len(old))
    else:
        yield path, old, new
    for step in steps:
        named = str(step).replace("~", "~0").replace(".", "~1")
        yield from _different(old[step], new[step], f"{path}.{named}" if path else named)


def undo(row: Row, entry: Mapping[str, Any]) -> Row:
    """The row as it was before the change that `entry` of changed.jsonl tells. Raises ValueError where it is not as it was left."""
    now = values(row, entry["after"])
    for path, new in entry["after"].items():
        if now[path] != new:
            raise ValueError(f"{entry['row']}: {path} has been changed since")
    return with_values(row, entry["before"])


def values(row: Row, paths: Iterable[str]) -> dict[str, Any]:
    """What a row holds at these paths."""
    body = json.loads(json.dumps(row.to_json(), default=vars))
    found = {}
    for path in paths:
        above, last = _place(body, path)
        found[path] = above[last]
    return found


def with_values(row: Row, given: Mapping[str, Any]) -> Row:
    """The row with these values at their paths."""
    body = json.loads(json.dumps(row.to_json(), default=vars))
    for path, value in given.items():
        above, last = _place(body, path)
        above[last] = value
    return row_from_json(body)


def _place(body: Any, path: str) -> tuple[Any, Any]:
    """What holds the value at a path, and its key or number in that."""
    *above, last = [step.replace("~1", ".").replace("~0", "~") for step in path.split(".")]
    for step in above:
        body = body[int(step) if isinstance(body, list) else step]
    return body, int(last) if isinstance(body, list) else last


def entries(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of one of the files, one at a time; none where there is no such file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
