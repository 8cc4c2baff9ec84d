"""JSON: a list of records, or an object with the list under "data".

    [{"instruction": "Name a colour.", "output": "Blue"}, {"instruction": "Name a fruit.", "output": "Pear"}]
    {"version": 2, "data": [{"instruction": "Name a colour.", "output": "Blue"}]}

Read piece by piece, so the size of the file does not matter. An object without such a list is one record.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from sartor.data.opening import not_utf8, opened, skip_mark, too_long
from sartor.data.sources._json import LENIENT, Malformed, scan
from sartor.data.sources._record import Record
from sartor.data.sources.jsonl import no_object
from sartor.errors import DataError, Problem
from sartor.options import NoOptions as Options

__all__ = ["EXTENSIONS", "Options", "records"]

EXTENSIONS: tuple[str, ...] = (".json",)

_SPACE = re.compile(r"[ \t\r\n]*")
_PIECE = 1 << 18
_LOOK = 16
"""A fault this close to the end of what was read so far may only be a cut token."""


def records(path: Path, *, max_line_bytes: int) -> Iterator[Record | Problem]:
    """One record or problem per object. A fault of the syntax ends the file: DataError, as what follows has no known start."""
    with opened(path) as stream:
        yield from skip_mark(stream)
        window = _Window(stream, max_line_bytes)
        opening = window.peek()
        if opening == "[":
            yield from _list(window)
        elif opening == "{":
            yield from _object(window, max_line_bytes)
        elif opening:
            raise DataError(window.unexpected("a list of records, [{...}, ...]"))
        if opening and window.peek():
            raise DataError(window.unexpected("the end of the file"))


def _list(window: _Window) -> Iterator[Record | Problem]:
    window.take("[")
    if window.peek() == "]":
        window.take("]")
        return
    while True:
        window.peek()
        line = window.line
        try:
            value, text = window.value()
        except Malformed as fault:
            yield fault.problem
        else:
            yield Record(value, line, text) if type(value) is dict else no_object(value, line, text)
        if window.peek() != ",":
            break
        window.take(",")
        if window.peek() == "]":
            raise DataError(window.unexpected("a record after the comma"))
    window.take("]", "',' or ']' after the record")


def _object(window: _Window, max_line_bytes: int) -> Iterator[Record | Problem]:
    line, members, size, found = window.line, dict[str, Any](), 0, False
    window.take("{")
    while window.peek() not in ("}", ""):
        if window.peek() != '"':
            raise DataError(window.unexpected("a key in double quotes"))
        try:
            key, _ = window.value()
            window.take(":", "':' after the key")
            if key == "data" and window.peek() == "[":
                found = True
                yield from _list(window)
            elif key in members:
                raise DataError(Problem("D105", f'key "{key}" appears twice', line=window.line, fix="keep one of them"))
            else:
                members[key], text = window.value()
                size += len(text)
                if size > max_line_bytes:
                    raise DataError(too_long(line, max_line_bytes, fix="put the records into a list: [{...}, ...]"))
        except Malformed as fault:
            raise DataError(fault.problem) from fault
        if window.peek() != ",":
            break
        window.take(",")
    window.take("}", "',' or '}'")
    if not found:
        yield Record(members, line)


class _Window:
    """The part of the text at hand, and the line and column of its next character."""

    def __init__(self, stream: BufferedReader, limit: int) -> None:
        self._stream, self._limit = stream, limit
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._ended = "", 0, False
        self._fault: Problem | None = None
        self.line = self.column = 1

    def peek(self) -> str:
        """The next character that is no space, without taking it; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._advance(match.end() if match else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, character: str, expected: str | None = None) -> None:
        if self.peek() != character:
            raise DataError(self.unexpected(expected or f"'{character}'"))
        self._advance(self._at + 1)

    def value(self) -> tuple[Any, str]:
        """The value that begins here and its text. Raises Malformed past it, or DataError where its end is unknown."""
        self.peek()
        while True:
            flaw: Malformed | None = None
            end: int | None
            try:
                value, end = scan(self._text, self._at, self.line, self.column)
            except Malformed as fault:
                value, end, flaw = None, self._end(fault), fault
            if end is None or (end == len(self._text) and self._grow()):
                continue
            text, line = self._text[self._at : end], self.line
            self._advance(end)
            if len(text.encode("utf-8", "surrogatepass")) > self._limit:
                raise Malformed(too_long(line, self._limit))
            if flaw is not None:
                raise flaw
            return value, text

    def _end(self, fault: Malformed) -> int | None:
        """Where a refused value ends; None if more text was read and it is worth another look."""
        try:
            return LENIENT.raw_decode(self._text, self._at)[1]
        except json.JSONDecodeError as break_:
            cut = break_.pos >= len(self._text) - _LOOK or break_.msg.startswith("Unterminated")
            if cut and self._grow():
                return None
            raise DataError(fault.problem) from fault
        except (RecursionError, ValueError):
            raise DataError(fault.problem) from fault

    def unexpected(self, expected: str) -> Problem:
        """D101 at the next character."""
        met = self.peek()
        fix = "check the commas and brackets" if met else "the file is not complete: is it cut off?"
        what = f"expected {expected}, met {met!r}" if met else f"expected {expected}, met the end of the file"
        return Problem("D101", what, line=self.line, column=self.column, fix=fix)

    def _advance(self, end: int) -> None:
        breaks = self._text.count("\n", self._at, end)
        self.line += breaks
        last = self._text.rfind("\n", self._at, end)
        self.column = end - last if breaks else self.column + end - self._at
        self._at = end

    def _grow(self) -> bool:
        if len(self._text) - self._at > self._limit:
            raise DataError(too_long(self.line, self._limit))
        return self._more()

    def _more(self) -> bool:
        if self._fault:
            raise DataError(self._fault)
        if self._ended:
            return False
        held = self._decoder.getstate()[0]
        data = self._stream.read(max(_PIECE, len(self._text) - self._at))
        self._ended = not data
        self._text, self._at = self._text[self._at :], 0
        try:
            self._text += self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as fault:
            data = held + data
            self._fault = self._misspelt(data)
            self._text += data[: fault.start].decode()
        return not self._ended

    def _misspelt(self, data: bytes) -> Problem:
        whole = (" " * (self.column - 1) + self._text).encode("utf-8", "surrogatepass") + data
        try:
            whole.decode()
        except UnicodeDecodeError as fault:
            return not_utf8(whole, fault, line=self.line)
        raise AssertionError("decoded at the second attempt")
