"""JSON lines: one record per line.

    {"prompt": "Where is my order?", "completion": "It left our warehouse today."}

Blank lines are passed over. A bad line is one problem, and reading goes on with the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sartor.data.opening import Part, lines, lines_of, not_utf8
from sartor.data.sources._json import Malformed, parse
from sartor.data.sources._record import Record, shorten
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["EXTENSIONS", "Options", "records", "records_of"]

EXTENSIONS: tuple[str, ...] = (".jsonl", ".ndjson")


def records(path: Path, *, max_line_bytes: int) -> Iterator[Record | Problem]:
    """One record or problem per line that is not blank. Raises DataError for faults of the whole file."""
    return _parsed(lines(path, max_line_bytes=max_line_bytes))


def records_of(path: Path, part: Part, *, max_line_bytes: int) -> Iterator[Record | Problem]:
    """The same for a part of the file."""
    return _parsed(lines_of(path, part, max_line_bytes=max_line_bytes))


def _parsed(items: Iterator[tuple[int, bytes] | Problem]) -> Iterator[Record | Problem]:
    for item in items:
        if isinstance(item, Problem):
            yield item
            continue
        number, line = item
        if line.isspace():
            continue
        try:
            text = line.decode()
            value = parse(text, number)
        except UnicodeDecodeError as fault:
            yield not_utf8(line, fault, line=number)
        except Malformed as fault:
            yield fault.problem
        else:
            yield Record(value, number, text) if type(value) is dict else no_object(value, number, text)


def no_object(value: object, line: int, text: str) -> Problem:
    """D111 for a record that is no object."""
    name = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
    return Problem(
        "D111",
        f"the record is {name} (an object needed)",
        line=line,
        excerpt=shorten(text),
        fix='write {"column": value, ...}',
    )
