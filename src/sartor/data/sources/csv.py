"""CSV with a header line.

    question,answer
    "Hello, who is this?",The support desk.

Fields may be quoted and hold line breaks. The header line decides between comma, semicolon and tab.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sartor.data.sources._record import Record
from sartor.data.sources._table import table
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["EXTENSIONS", "Options", "records"]

EXTENSIONS: tuple[str, ...] = (".csv",)


def records(path: Path, *, max_line_bytes: int) -> Iterator[Record | Problem]:
    """One record or problem per row. Raises DataError for faults of the whole file."""
    return table(path, max_line_bytes=max_line_bytes, delimiter=_delimiter)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)
