"""A text file whose documents are divided by blank lines.

    It was a good year for apples.
    The harvest began early.

    The pears were late.

Only by `format: paragraphs`, never by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sartor.data import opening
from sartor.data.sources._record import Record
from sartor.data.sources.text import decoded
from sartor.errors import DataError, Problem
from sartor.options import NoOptions as Options

__all__ = ["EXTENSIONS", "Options", "records"]

EXTENSIONS: tuple[str, ...] = ()


def records(path: Path, *, max_line_bytes: int) -> Iterator[Record | Problem]:
    """One record with the column ``text`` or one problem per paragraph. Raises DataError for faults of the whole file."""
    held: list[bytes] = []
    size = start = 0
    for item in opening.lines(path, max_line_bytes=max_line_bytes):
        if isinstance(item, Problem):
            yield item
            continue
        number, line = item
        if not line.isspace():
            start = start if held or size else number
            size += len(line)
            if size <= max_line_bytes:
                held.append(line)
            else:
                held.clear()
        elif size:
            yield from _paragraph(held, start, size, max_line_bytes)
            held, size = [], 0
    if size:
        yield from _paragraph(held, start, size, max_line_bytes)


def _paragraph(held: list[bytes], start: int, size: int, max_line_bytes: int) -> Iterator[Record | Problem]:
    if size > max_line_bytes:
        yield opening.too_long(start, max_line_bytes)
        return
    try:
        text = decoded(b"".join(held), start).strip()
    except DataError as fault:
        yield from fault.problems
    else:
        yield Record({"text": text}, start, text)
