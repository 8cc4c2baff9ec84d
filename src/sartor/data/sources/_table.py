"""Rows of text tables: what CSV and TSV share."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from sartor.data.opening import lines, not_utf8
from sartor.data.sources._record import Record, shorten
from sartor.errors import DataError, Problem


class _Lines:
    """Feeds decoded lines to the csv module and remembers the faults of those that were not right."""

    def __init__(self, path: Path, max_line_bytes: int) -> None:
        self._items = lines(path, max_line_bytes=max_line_bytes)
        self.number = 0
        self.faults: list[Problem] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            item = next(self._items)
            if not isinstance(item, Problem):
                break
            self.faults.append(item)
        self.number, line = item
        try:
            text = line.decode()
        except UnicodeDecodeError as fault:
            self.faults.append(not_utf8(line, fault, line=self.number))
            return line.decode("utf-8", "replace")
        if "\0" in text:
            where = text.index("\0") + 1
            self.faults.append(
                Problem("D104", "invalid control character NUL", line=self.number, column=where, fix="remove it")
            )
        return text


def table(path: Path, *, max_line_bytes: int, delimiter: Callable[[str], str]) -> Iterator[Record | Problem]:
    """Each row under its header, as text, by the line it begins on. Raises DataError for a header that is not one.

    `delimiter` finds the delimiter from the first line.
    """
    feed = _Lines(path, max_line_bytes)
    first = next((line for line in feed if line.strip()), "")
    if any(fault.line == feed.number for fault in feed.faults if fault.level == "error"):
        raise DataError(*feed.faults)
    yield from _noted(feed)
    separator = delimiter(first)
    csv.field_size_limit(max(csv.field_size_limit(), max_line_bytes))
    rows = csv.reader(_after(first, feed), delimiter=separator, strict=True)
    start = feed.number
    header: list[str] | None = None
    while True:
        try:
            row = next(rows, None)
        except csv.Error as fault:
            problem = _malformed(str(fault), start, feed.number)
            if header is None:
                raise DataError(problem) from fault
            feed.faults.clear()
            yield problem
            start = feed.number + 1
            continue
        if row is None:
            break
        if feed.faults:
            problems = list(_noted(feed))
            if header is None and row:
                raise DataError(*problems)
            yield from problems
        elif header is None:
            header = _header(row, start)
        elif len(row) == len(header):
            yield Record(dict(zip(header, row, strict=True)), start, separator.join(row))
        elif row:
            yield _ragged(row, header, start, separator)
        start = feed.number + 1


def _after(first: str, feed: Iterator[str]) -> Iterator[str]:
    yield first
    yield from feed


def _noted(feed: _Lines) -> Iterator[Problem]:
    yield from feed.faults
    feed.faults.clear()


def _header(row: list[str], line: int) -> list[str]:
    """The names of the columns; one without a name, as of a data frame's index, is called by its number."""
    names = [name.strip() or f"column_{number}" for number, name in enumerate(row, 1)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                Problem("D105", f'column "{name}" appears twice in the header', line=line, fix="rename one")
            )
    return names


def _ragged(row: list[str], header: list[str], line: int, separator: str) -> Problem:
    return Problem(
        "D101",
        f"{len(row)} fields, the header has {len(header)}",
        line=line,
        excerpt=shorten(separator.join(row)),
        fix=f'put quotes round a field that holds "{separator}"'
        if len(row) > len(header)
        else "add the missing fields",
    )


def _malformed(fault: str, start: int, end: int) -> Problem:
    span = f" (lines {start:,} to {end:,} were taken as one row)" if end > start else ""
    if "unexpected end of data" in fault:
        return Problem(
            "D101", f"a quote opened here is not closed{span}", line=start, fix='close it; inside a field write ""'
        )
    if "field larger than" in fault:
        return Problem(
            "D107", f"a field is too long{span}", line=start, fix="close the quote, or raise data.max_line_mb"
        )
    return Problem("D101", f"text after a closing quote{span}", line=start, fix='inside a quoted field write "" for "')
