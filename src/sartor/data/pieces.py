"""Reads, cleans and writes the parts of a large file of JSON lines in several processes, with the result of one.

Each part becomes a data set of its own, which is copied into the whole in its turn; what was wrong and what was done is told
again in the order of the file. Small files, packed ones, tables, and files whose rows have ids of their own (which must be
compared with all others) are read in this process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sartor import registry
from sartor.data.cleaning import Placed, Ready, leading, passed
from sartor.data.crew import Crew, hands
from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.ledger import Ledger
from sartor.data.opening import Part
from sartor.data.reading import divided, read
from sartor.data.rows import Row
from sartor.errors import Problem
from sartor.recipe.schema import Component, Source

SIZE = 2 << 20
"""Bytes of a part ..."""
PARTS = 4
"""... of which a file must have more than this many to be read in parts; starting a process costs as much as reading half of one."""
MANY = 40_000
"""Rows from which on checks run in several processes."""


@dataclass(frozen=True, slots=True)
class Read:
    """A part that has been read."""

    rows: int
    """Good rows in it, before any stage."""
    ready: Ready


class Workshop:
    """Where parts are made. Use it in a `with`: processes are started when they are needed, and none is left.

    Args:
        stages: the recipe's, of which those that see one row at a time and come first are done on the way.
        folder: parts lie there until they are copied.
        processes: how many, this one included; `hands()` where it is left out.
        size: bytes of a part.
    """

    def __init__(
        self, stages: Sequence[Component], folder: Path, *, processes: int | None = None, size: int = SIZE
    ) -> None:
        self._stages, self._folder, self._size = leading(stages), folder, size
        self._processes = hands() if processes is None else processes
        self._crew: Crew | None = None
        self._open = ExitStack()
        self._numbers = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        shutil.rmtree(self._folder, ignore_errors=True)

    def parts(
        self, file: Path, source: Source, label: str, role: int, limit: int, findings: Findings
    ) -> Iterator[Read] | None:
        """The parts of a file, in order, what is wrong with them told to `findings`; None for a file to be read here."""
        if self._processes < 2 or source.id is not None or not _is_large(file, PARTS * self._size):
            return None
        found = divided(file, format=source.format, map=source.map, max_line_bytes=limit, size=self._size)
        return None if found is None else self._made(found, file, source, label, role, limit, findings)

    def checkers(self, dataset: Dataset) -> Crew | None:
        """Who can check the data set side by side; None where that is not worth it."""
        return None if self._processes < 2 or len(dataset) < MANY else self._workers()

    def _workers(self) -> Crew:
        if self._crew is None:
            self._crew = self._open.enter_context(Crew(self._processes - 1))
        return self._crew

    def _made(
        self,
        parts: Iterable[Part],
        file: Path,
        source: Source,
        label: str,
        role: int,
        limit: int,
        findings: Findings,
    ) -> Iterator[Read]:
        crew = self._workers()
        folders: list[Path] = []

        def given() -> Iterator[tuple[str, dict[str, Any]]]:
            for part in parts:
                folders.append(self._folder / f"{next(self._numbers)}")
                yield (
                    f"{label}:{part.first}-{part.first + part.count - 1}",
                    {
                        "file": str(file),
                        "label": label,
                        "source": source.model_dump(mode="json"),
                        "limit": limit,
                        "part": asdict(part),
                        "stages": [
                            {"name": stage.name, "options": stage.options.model_dump(mode="json")}
                            for stage in self._stages
                        ],
                        "folder": str(folders[-1]),
                    },
                )

        for number, told in enumerate(crew.each(make, given())):
            for note, rejected in told["notes"]:
                problem = Problem(**{**note, "rows": tuple(note["rows"])})
                (findings.reject if rejected else findings.add)(problem)
            findings.records[label] += told["records"]
            findings.formats[label] = told["format"]
            findings.unused[label] = tuple(dict.fromkeys((*findings.unused.get(label, ()), *told["unused"])))
            yield Read(told["rows"], Ready(folders[number], role, told["steps"]))


def _is_large(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size > size
    except OSError:
        return False


class _Noting(Findings):
    """Findings that are told elsewhere, in the order in which they come."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[dict[str, Any], bool]] = []

    def add(self, problem: Problem) -> None:
        self.notes.append((asdict(problem), False))

    def reject(self, problem: Problem) -> None:
        self.notes.append((asdict(problem), True))


def make(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read, clean and write one part: what a worker does."""
    source, label = given["source"], given["label"]
    stages = [
        Component(
            name=stage["name"],
            options=registry.component("stage", stage["name"]).Options.model_validate(stage["options"]),
        )
        for stage in given["stages"]
    ]
    findings, folder = _Noting(), Path(given["folder"])
    good = count()
    coming = read(
        Path(given["file"]),
        format=source["format"],
        map=source["map"],
        group=source["group"],
        max_line_bytes=given["limit"],
        findings=findings,
        label=label,
        part=Part(**given["part"]),
    )

    def placed() -> Iterator[Placed]:
        for row in coming:
            next(good)
            yield row, -1

    folder.mkdir(parents=True)
    with Ledger(folder, [stage.name for stage in stages]) as ledger:
        waiting = list(zip(stages, ledger.steps, strict=True))
        Dataset.write_shingled(_rows(passed(placed(), waiting, ledger)), folder).seal()
    return {
        "notes": findings.notes,
        "records": findings.records[label],
        "format": findings.formats[label],
        "unused": findings.unused[label],
        "rows": next(good),
        "steps": [asdict(step) for step in ledger.steps],
    }


def _rows(items: Iterable[Placed | Ready]) -> Iterator[Row]:
    for item in items:
        assert not isinstance(item, Ready)
        yield item[0]
