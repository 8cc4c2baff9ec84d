"""A text file with one document per line.

    It was a good year for apples.
    The harvest began early.

Only by `format: lines`, never by itself; blank lines are passed over.
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
    """One record with the column ``text`` or one problem per line. Raises DataError for faults of the whole file."""
    for item in opening.lines(path, max_line_bytes=max_line_bytes):
        if isinstance(item, Problem):
            yield item
            continue
        number, line = item
        try:
            text = decoded(line, number).strip()
        except DataError as fault:
            yield from fault.problems
        else:
            if text:
                yield Record({"text": text}, number, text)
