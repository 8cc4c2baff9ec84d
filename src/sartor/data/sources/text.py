"""Text and Markdown: one file is one document.

    # Returns
    You may return an item within 30 days.

Blank lines do not divide it; `format: paragraphs` and `format: lines` do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sartor.data.opening import not_utf8, opened, skip_mark, too_long
from sartor.data.sources._record import Record
from sartor.errors import DataError, Problem
from sartor.options import NoOptions as Options

__all__ = ["EXTENSIONS", "Options", "records"]

EXTENSIONS: tuple[str, ...] = (".txt", ".md", ".markdown", ".text")


def records(path: Path, *, max_line_bytes: int) -> Iterator[Record | Problem]:
    """The document as the column ``text``; nothing for a blank file. Raises DataError for one that is not text or too long."""
    with opened(path) as stream:
        yield from skip_mark(stream)
        data = stream.read(max_line_bytes + 1)
    if len(data) > max_line_bytes:
        fix = "read it by format: paragraphs or format: lines, or raise data.max_line_mb"
        raise DataError(too_long(1, max_line_bytes, fix=fix))
    document = decoded(data, 1)
    if document.strip():
        yield Record({"text": document}, 1, document)


def decoded(data: bytes, line: int) -> str:
    """The text of `data`, which begins on `line`, with line ends as line feeds. Raises DataError D102 or D104."""
    try:
        text = data.decode()
    except UnicodeDecodeError as fault:
        raise DataError(not_utf8(data, fault, line=line)) from fault
    if "\0" in text:
        before = text[: text.index("\0")]
        column = len(before) - before.rfind("\n")
        what = "invalid control character NUL"
        raise DataError(Problem("D104", what, line=line + before.count("\n"), column=column, fix="remove it"))
    return text.replace("\r\n", "\n")
