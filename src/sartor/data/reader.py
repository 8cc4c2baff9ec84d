"""Streams the rows of all sources of a recipe, one file behind the other, and remembers what each file was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sartor.data.cleaning import Placed, Ready
from sartor.data.findings import Findings
from sartor.data.pieces import Workshop
from sartor.data.reading import Recognised, expand, read, recognise
from sartor.data.split import OUT, PARTS
from sartor.errors import DataError
from sartor.events import Event, Progressed
from sartor.recipe.schema import Data, Source

Emit = Callable[[Event], None]
RECOGNISED = 100
"""Files whose form is looked up and kept; a folder may hold any number."""
EVERY = 5000
"""Rows between two progress events."""


class Reader:
    """Streams the rows of all sources and remembers the role of each."""

    def __init__(self, data: Data, root: Path, emit: Emit) -> None:
        self.findings = Findings()
        self.files: dict[str, Path] = {}
        """Where each file lies whose rows have come."""
        self.recognised: list[Recognised] = []
        self._data, self._root, self._emit = data, root, emit
        self.sources: dict[str, int] = {}
        self._read = 0

    def rows(self) -> Iterator[Placed]:
        """Every good row."""
        for source, file, label in self._files():
            yield from self._rows(source, file, label)

    def flow(self, workshop: Workshop) -> Iterator[Placed | Ready]:
        """The same, those of large files in parts that are made in other processes."""
        for source, file, label in self._files():
            role, limit = _role(source), self._limit
            parts = workshop.parts(file, source, label, role, limit, self.findings)
            if parts is None:
                yield from self._rows(source, file, label)
                continue
            before = self._read
            for part in parts:
                self._read += part.rows
                self._emit(Progressed("reading", self._read))
                yield part.ready
            self._recognise(source, file, label, before)

    def _files(self) -> Iterator[tuple[Source, Path, str]]:
        for number, source in enumerate(self._data.sources):
            try:
                files = expand(source.path, self._root)
            except DataError as fault:
                for problem in fault.problems:
                    self.findings.add(problem)
                continue
            for file in files:
                label = source.path if len(files) == 1 else _shown(file, self._root)
                self.sources[label], self.files[label] = number, file
                yield source, file, label
        if self._read:
            self._emit(Progressed("reading", self._read, self._read))

    @property
    def _limit(self) -> int:
        """Bytes of a line."""
        return int(self._data.max_line_mb * (1 << 20))

    def _rows(self, source: Source, file: Path, label: str) -> Iterator[Placed]:
        role, before = _role(source), self._read
        for row in read(
            file,
            format=source.format,
            map=source.map,
            group=source.group,
            id=source.id,
            max_line_bytes=self._limit,
            findings=self.findings,
            label=label,
        ):
            self._read += 1
            if self._read % EVERY == 0:
                self._emit(Progressed("reading", self._read))
            yield row, role
        self._recognise(source, file, label, before)

    def _recognise(self, source: Source, file: Path, label: str, before: int) -> None:
        if self._read > before and len(self.recognised) < RECOGNISED:
            self.recognised.append(
                recognise(file, format=source.format, map=source.map, max_line_bytes=self._limit, label=label)
            )


def _role(source: Source) -> int:
    """The number of the part that its rows are given to; -1 where they are ours to divide."""
    return OUT if source.role == "split" else PARTS.index("train" if source.role == "replay" else source.role)


def _shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
