"""Turns a user's file into rows: picks the source by the file, the format by its records, and names each bad row."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from sartor import registry
from sartor.data import images
from sartor.data.findings import Findings
from sartor.data.formats._fields import BadRow, kind, nearest
from sartor.data.opening import PACKED, Part, extension, parts, sniff
from sartor.data.paths import expand, missing
from sartor.data.recognition import shape
from sartor.data.rows import Origin, Row
from sartor.data.sources import jsonl
from sartor.data.sources._record import Record, visible
from sartor.errors import DataError, Problem

__all__ = ["Recognised", "expand", "read", "recognise", "records"]

_HEAD = 100
"""Records by which a format is recognised."""
_NO_MAP: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file turned out to be."""

    source: str
    format: str
    sample: Row
    """The first good row, converted."""
    columns: tuple[str, ...]
    """All columns of the records looked at."""
    unused: tuple[str, ...]
    """Those that no field of the format uses; they stay in `Row.columns`."""


def read(
    path: Path,
    *,
    format: str = "auto",
    map: Mapping[str, str] = _NO_MAP,
    group: str | None = None,
    id: str | None = None,
    max_line_bytes: int = 4 << 20,
    findings: Findings,
    label: str | None = None,
    part: Part | None = None,
) -> Iterator[Row]:
    """Streams the rows of a file in constant memory; what is wrong goes to `findings`, never to an exception.

    `format` names a format, or a source (`lines`, `csv`, ...) whose format is then recognised. `map` is our field -> the
    file's column; `group` and `id` are the file's columns. A bad record is rejected and skipped; a fault of the whole file
    ends it. `label` is the file's name in messages; `part` is one of `divided`. `findings.formats` and `findings.unused` say how the file was read.
    """
    reading = _Reading(label or str(path), findings)
    try:
        for record, row in reading.rows(path, format, map, max_line_bytes, part):
            try:
                named = row if group is None else replace(row, group=_identity(record.value, group))
                if id is not None:
                    named = replace(named, id=_identity(record.value, id))
                    if owner := findings.claim(str(named.id), row.origin):
                        raise BadRow("D114", f'id "{named.id}" is already that of {owner}', "give every row its own id")
            except BadRow as bad:
                reading.reject(bad, record)
            else:
                yield named
    except DataError as fault:
        for problem in fault.problems:
            findings.add(reading.located(problem))


def divided(
    path: Path, *, format: str, map: Mapping[str, str], max_line_bytes: int, size: int
) -> Iterator[Part] | None:
    """Parts of about `size` bytes that can be read apart; None for a file that is to be read as a whole.

    Only JSON lines can, more than `size` bytes of them, and none in whose first records there is a fault of the whole file.
    """
    trial = _Reading(str(path), Findings())
    try:
        source, _ = _source(path, format)
        if source != "jsonl" or path.suffix.lower() in PACKED or path.stat().st_size <= size:
            return None
        head = trial.head(path, max_line_bytes)
        shape(_source(path, format)[1], map, head, table=False)
    except (DataError, OSError):
        return None
    return parts(path, size) if len(head) == _HEAD and head[-1].line < next(parts(path, size)).count else None


def recognise(
    path: Path,
    *,
    format: str = "auto",
    map: Mapping[str, str] = _NO_MAP,
    max_line_bytes: int = 4 << 20,
    label: str | None = None,
) -> Recognised:
    """What a file is, by its first records. Raises DataError with everything found wrong if there is no good row."""
    findings = Findings()
    reading = _Reading(label or str(path), findings)
    try:
        for record, row in reading.rows(path, format, map, max_line_bytes):
            columns = reading.columns or tuple(record.value)
            return Recognised(
                reading.source, findings.formats[reading.file], row, columns, findings.unused[reading.file]
            )
    except DataError as fault:
        raise DataError(*(reading.located(problem) for problem in fault.problems)) from fault
    raise DataError(*findings.errors)


def records(path: Path, *, format: str = "auto", max_line_bytes: int = 4 << 20) -> Iterator[Record | Problem]:
    """The records of a file as they stand there, whatever their form. Raises DataError for faults of the whole file."""
    source, _ = _source(path, format)
    found: Iterator[Record | Problem] = registry.component("source", source).records(
        path, max_line_bytes=max_line_bytes
    )
    return found


class _Reading:
    """One pass over one file."""

    def __init__(self, file: str, findings: Findings) -> None:
        self.file, self._findings = file, findings
        self.source = ""
        self.columns: tuple[str, ...] = ()
        """All columns of the records by which the format was recognised."""
        findings.records[file] += 0

    def rows(
        self,
        path: Path,
        format: str,
        columns: Mapping[str, str],
        max_line_bytes: int,
        part: Part | None = None,
    ) -> Iterator[tuple[Record, Row]]:
        """Each good record with its row. Raises DataError for faults of the whole file."""
        self.source, form_name = _source(path, format)
        if part is None:
            source = registry.component("source", self.source)
            head, rest = _head(self._records(source.records(path, max_line_bytes=max_line_bytes)))
            coming = chain(head, rest)
        elif part.begin:
            head = _Reading(self.file, Findings()).head(path, max_line_bytes)
            coming = chain((), self._records(jsonl.records_of(path, part, max_line_bytes=max_line_bytes)))
        else:
            head, rest = _head(self._records(jsonl.records_of(path, part, max_line_bytes=max_line_bytes)))
            coming = chain(head, rest)
        if not head:
            if not self._findings.records[self.file]:
                raise DataError(Problem("D100", "no records", fix="give a file with at least one row"))
            return
        form = shape(form_name, columns, head, table=self.source in ("csv", "tsv"))
        self.columns = tuple(dict.fromkeys(chain.from_iterable(record.value for record in head)))
        self._findings.formats[self.file] = form.name
        unused = dict.fromkeys(column for column in self.columns if column not in form.taken)
        self._findings.unused[self.file] = tuple(unused)
        for record in coming:
            try:
                row = images.resolved(form.row(record.value, Origin(self.file, record.line)), path.parent)
            except BadRow as bad:
                self.reject(BadRow(bad.code, form.said(bad.what), bad.fix), record)
                continue
            if unused or not record.value.keys() <= form.taken:
                others = {name: entry for name, entry in record.value.items() if name not in form.taken}
                row = replace(row, columns=others)
                if not others.keys() <= unused.keys():
                    unused.update(dict.fromkeys(others))
                    self._findings.unused[self.file] = tuple(unused)
            yield record, row

    def head(self, path: Path, max_line_bytes: int) -> list[Record]:
        """The first records of a file of JSON lines. Raises DataError for faults of the whole file."""
        head, _ = _head(self._records(jsonl.records(path, max_line_bytes=max_line_bytes)))
        return head

    def reject(self, bad: BadRow, record: Record) -> None:
        """Note that a record is left out."""
        problem = Problem(bad.code, bad.what, line=record.line, excerpt=record.excerpt, fix=bad.fix)
        self._findings.reject(self.located(problem))

    def located(self, problem: Problem) -> Problem:
        """The problem with the file's name in it."""
        fix = problem.fix and visible(problem.fix.replace("{file}", shlex.quote(self.file)))
        return replace(problem, file=problem.file or self.file, what=visible(problem.what), fix=fix)

    def _records(self, items: Iterator[Record | Problem]) -> Iterator[Record]:
        for item in items:
            if isinstance(item, Record):
                self._findings.records[self.file] += 1
                yield item
            elif item.level == "error":
                self._findings.records[self.file] += 1
                self._findings.reject(self.located(item))
            else:
                self._findings.add(self.located(item))


def _head(records: Iterator[Record]) -> tuple[list[Record], Iterator[Record]]:
    """The first records, and those after them; a fault met on the way is raised in its place."""
    head: list[Record] = []
    try:
        for record in records:
            head.append(record)
            if len(head) == _HEAD:
                break
    except DataError as fault:
        if not head:
            raise
        return head, _broken(fault)
    return head, records


def _broken(fault: DataError) -> Iterator[Record]:
    yield from ()
    raise fault


def _source(path: Path, format: str) -> tuple[str, str]:
    """The names of the source and of the format."""
    sources, formats = registry.names("source"), registry.names("format")
    if format in sources and format not in formats:
        return format, "auto"
    if format != "auto" and format not in formats:
        near = nearest(format, [*formats, *sources])
        what = f'unknown format "{format}"' + (f'; did you mean "{near}"?' if near else "")
        raise DataError(Problem("D112", what, fix="formats are auto, " + ", ".join(formats)))
    if not path.exists():
        raise DataError(missing(path, str(path)))
    ending = extension(path)
    name = next((name for name in sources if ending in registry.component("source", name).EXTENSIONS), None)
    if name in (None, "json", "jsonl"):
        seen = sniff(path)
        if name == "jsonl":
            name = "json" if seen == "list" else "jsonl"
        elif seen is not None:
            name = "jsonl" if seen == "lines" else "json"
    return name or "text", format


def _identity(value: Mapping[str, Any], column: str) -> str:
    found = value.get(column)
    if isinstance(found, str | int) and not isinstance(found, bool) and str(found).strip():
        return str(found)
    state = "missing" if column not in value else "empty" if isinstance(found, str) else kind(found)
    raise BadRow("D111", f'"{column}" is {state} (it identifies the row or its group)', "give it a value")
