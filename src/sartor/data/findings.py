"""Collects what is wrong with the data, so that all of it is told at once and every row left out is counted and named."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

from sartor.data.owners import Owners
from sartor.data.rows import Origin
from sartor.errors import Problem

DISTINCT = 200
"""Different messages kept per file and code; further ones are counted under one message, so that memory stays bounded."""


class Dropped(NamedTuple):
    """One row that was left out."""

    origin: Origin
    rule: str
    """The code of the fault, or the name of the rule that dropped the row."""
    reason: str


@dataclass(slots=True)
class _Entry:
    problem: Problem
    skippable: bool
    rows: array[int] = field(default_factory=lambda: array("q"))

    def told(self) -> Problem:
        if not self.rows:
            return self.problem
        rows = (*self.problem.rows, *self.rows)
        return replace(self.problem, what=f"{self.problem.what} ({len(rows) + 1:,} rows)", rows=rows)


class Findings:
    """Problems merged by code, file and message; rows dropped; records read and skipped per file."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, str | None, str], _Entry] = {}
        self._distinct: Counter[tuple[str, str | None]] = Counter()
        self._dropped: dict[tuple[str, str, str], array[int]] = {}
        self._owners = Owners()
        self.records: Counter[str] = Counter()
        """Records met in each file, good and bad."""
        self.skipped: Counter[str] = Counter()
        """Records of each file that were bad and left out."""
        self.formats: dict[str, str] = {}
        """The format each file was read as."""
        self.unused: dict[str, tuple[str, ...]] = {}
        """Columns of each file that no field uses; they stay with the row in `Row.columns`."""

    def add(self, problem: Problem) -> None:
        """Note a problem. The same code, file and message again only adds its line to the first one."""
        self._note(problem, skippable=False)

    def reject(self, problem: Problem) -> None:
        """Note a problem of one record that is therefore left out. Its file and line must be set."""
        self._note(problem, skippable=True)
        origin = Origin(problem.file or "", problem.line or 0)
        self.skipped[origin.file] += 1
        self.drop(origin, problem.code, problem.what)

    def drop(self, origin: Origin, rule: str, reason: str) -> None:
        """Note that a row was left out, and why."""
        if (origin.file, rule, reason) not in self._dropped and len(self._dropped) > DISTINCT**2:
            reason = "other faults of this kind"
        self._dropped.setdefault((origin.file, rule, reason), array("q")).append(origin.line)

    def claim(self, identity: str, origin: Origin) -> Origin | None:
        """Register a row's id. Returns the row that has it already, if any."""
        return self._owners.claim(identity, origin)

    def forgive(self) -> None:
        """Turn the errors of rows that were left out into warnings: what ``data.on_bad: skip`` means."""
        for entry in self._entries.values():
            if entry.skippable and entry.problem.level == "error":
                entry.problem = replace(entry.problem, level="warning")

    @property
    def problems(self) -> list[Problem]:
        """All problems in the order they were met; `rows` holds the further lines, and the message says how many."""
        return [entry.told() for entry in self._entries.values()]

    @property
    def errors(self) -> list[Problem]:
        """The problems of level error."""
        return [entry.told() for entry in self._entries.values() if entry.problem.level == "error"]

    @property
    def fatal(self) -> list[Problem]:
        """The errors that leaving rows out cannot mend: a file that is missing, damaged or of no known format."""
        entries = self._entries.values()
        return [entry.told() for entry in entries if entry.problem.level == "error" and not entry.skippable]

    @property
    def dropped(self) -> Iterator[Dropped]:
        """Every row left out, by file, rule and reason."""
        for (file, rule, reason), lines in self._dropped.items():
            for line in lines:
                yield Dropped(Origin(file, line), rule, reason)

    def json(self) -> dict[str, Any]:
        """``{"files": [{path, format, records, skipped, unused}], "findings": [problem]}``."""
        files = dict.fromkeys((*self.formats, *self.records))
        return {
            "files": [
                {
                    "path": path,
                    "format": self.formats.get(path),
                    "records": self.records[path],
                    "skipped": self.skipped[path],
                    "unused": list(self.unused.get(path, ())),
                }
                for path in files
            ],
            "findings": [problem.json() for problem in self.problems],
        }

    def state(self) -> dict[str, Any]:
        """Everything, as a JSON object from which `restore` rebuilds it; ids that were claimed are left out."""
        return {
            "entries": [
                {"problem": asdict(entry.problem), "skippable": entry.skippable, "rows": entry.rows.tolist()}
                for entry in self._entries.values()
            ],
            "dropped": [[*key, lines.tolist()] for key, lines in self._dropped.items()],
            "records": self.records,
            "skipped": self.skipped,
            "formats": self.formats,
            "unused": self.unused,
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """The findings whose `state` this is."""
        self = cls()
        for entry in state["entries"]:
            problem = Problem(**{**entry["problem"], "rows": tuple(entry["problem"]["rows"])})
            self._entries[_key(problem)] = _Entry(problem, entry["skippable"], array("q", entry["rows"]))
            self._distinct[problem.code, problem.file] += 1
        self._dropped = {(file, rule, reason): array("q", lines) for file, rule, reason, lines in state["dropped"]}
        self.records, self.skipped = Counter(state["records"]), Counter(state["skipped"])
        self.formats = dict(state["formats"])
        self.unused = {file: tuple(columns) for file, columns in state["unused"].items()}
        return self

    def _note(self, problem: Problem, *, skippable: bool) -> None:
        key = _key(problem)
        entry = self._entries.get(key)
        if entry is None and self._distinct[problem.code, problem.file] >= DISTINCT:
            problem = replace(problem, what="more faults of this kind", column=None, excerpt=None, caret=0)
            key = _key(problem)
            entry = self._entries.get(key)
        if entry is None:
            self._distinct[problem.code, problem.file] += 1
            self._entries[key] = _Entry(problem, skippable)
            return
        entry.skippable &= skippable
        if problem.line is not None:
            entry.rows.append(problem.line)
        entry.rows.extend(problem.rows)


def _key(problem: Problem) -> tuple[str, str, str | None, str]:
    """Problems with the same key are one."""
    return (problem.level, problem.code, problem.file, problem.what)
