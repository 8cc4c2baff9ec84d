"""Strict JSON: no duplicate keys, no NaN, no lone surrogates, bounded depth; every fault with its column and what was meant."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from sartor.data.sources._record import shorten
from sartor.errors import Problem

DEEPEST = 100
LENIENT = json.JSONDecoder(strict=False)
"""Finds the end of a record that `STRICT` refuses for its content."""

_STRING_OR_CONSTANT = re.compile(r'"(?:\\.|[^"\\])*"|(NaN|-?Infinity)', re.DOTALL)
_NUMBER = re.compile(r'"(?:\\.|[^"\\])*"|(-?\d+(?:\.\d+)?[eE]\+?\d+|-?\d{309,}\.\d+)', re.DOTALL)
_SUSPECT = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_WORDS = {
    "Expecting ',' delimiter": "expected ',' or the end of the object or list",
    "Expecting ':' delimiter": "expected ':' after the key",
    "Expecting property name enclosed in double quotes": "expected a key in double quotes",
    "Expecting value": "expected a value",
    "Unterminated string starting at": "the text that starts here has no closing quote",
    "Extra data": "expected the end of the line after the record",
}


class Malformed(Exception):
    """A record that is not JSON as it should be."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Refused(Exception):
    """Raised inside the decoder: the code, what is wrong, and a pattern whose last match is where."""

    def __init__(self, code: str, what: str, fix: str, place: re.Pattern[str]) -> None:
        super().__init__(what)
        self.code, self.what, self.fix, self.place = code, what, fix, place


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        place = re.compile(re.escape(json.dumps(twice, ensure_ascii=False)) + r"\s*:")
        raise _Refused("D105", f"key {json.dumps(twice, ensure_ascii=False)} appears twice", "keep one of them", place)
    return members


def _constant(name: str) -> float:
    raise _Refused("D106", f"{name} is not JSON", "write null, or leave the number out", _STRING_OR_CONSTANT)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refused("D106", f"the number {shorten(text, width=20)} is too large", "write a smaller number", _NUMBER)
    return number


STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)


def parse(text: str, line: int) -> Any:
    """The value of one line. Raises Malformed."""
    start = len(text) - len(text.lstrip()) if text[:1] != "{" else 0
    value, end = scan(text, start, line, 1)
    if end < len(text) and text[end:].strip():
        raise Malformed(syntax(text, json.JSONDecodeError("Extra data", text, end), line, 1))
    return value


def scan(text: str, start: int, line: int, column: int) -> tuple[Any, int]:
    """The value that begins at `start`, which lies at `line` and `column`, and where it ends. Raises Malformed."""
    try:
        value, end = STRICT.raw_decode(text, start)
    except json.JSONDecodeError as fault:
        raise Malformed(syntax(text, fault, line, column, start)) from fault
    except _Refused as fault:
        raise Malformed(_refused(text, fault, line, column, start)) from fault
    except RecursionError as fault:
        raise Malformed(_too_deep(line)) from fault
    except ValueError as fault:
        raise Malformed(Problem("D101", "a number has too many digits", line=line, fix="write it as text")) from fault
    record = text if start == 0 and end == len(text) else text[start:end]
    if record.count("{") + record.count("[") > DEEPEST and _depth(value) > DEEPEST:
        raise Malformed(_too_deep(line))
    if "\\u" in record and (suspect := _SUSPECT.search(record)) and (flaw := _flaw(value)):
        raise Malformed(_at("D104", flaw, text, start + suspect.start(), line, column, start, fix="remove it"))
    return value, end


def syntax(text: str, fault: json.JSONDecodeError, line: int, column: int, start: int = 0) -> Problem:
    """D101 or D104 for a fault the decoder found; `start` of the text lies at `line` and `column`."""
    where = fault.pos
    if fault.msg == "Invalid control character at":
        name = "NUL" if text[where] == "\0" else f"U+{ord(text[where]):04X}"
        return _at(
            "D104", f"invalid control character {name}", text, where, line, column, start, fix="remove or escape it"
        )
    what, fix = _WORDS.get(fault.msg, fault.msg[:1].lower() + fault.msg[1:]), None
    around = text[where : where + 1]
    before = text[start:where].rstrip()[-1:]
    if around == "'":
        what, fix = f"{what}, met a single quote", "JSON needs double quotes; a Python dict is written by json.dumps"
    elif around in "}]" and around and before == ",":
        what, fix = "a comma before the closing bracket", "remove the comma"
    elif text.startswith(("True", "False", "None"), where):
        fix = "JSON writes true, false and null"
    elif not text[where:].strip() or fault.msg.startswith("Unterminated"):
        fix = "the record is not complete: is the file cut off, or a line broken in two?"
    elif fault.msg.startswith("Expecting ','"):
        fix = 'quote or escape the text (\\" inside text)'
    elif fault.msg == "Extra data":
        fix = "one record per line"
    else:
        fix = "mend the JSON here"
    return _at("D101", what, text, where, line, column, start, fix=fix)


def _refused(text: str, fault: _Refused, line: int, column: int, start: int) -> Problem:
    places = [match for match in fault.place.finditer(text, start) if not fault.place.groups or match.group(1)]
    where = places[min(len(places) - 1, 1 if fault.code == "D105" else 0)].start() if places else start
    return _at(fault.code, fault.what, text, where, line, column, start, fix=fault.fix)


def _at(code: str, what: str, text: str, where: int, line: int, column: int, start: int, *, fix: str | None) -> Problem:
    breaks = text.count("\n", start, where)
    column = where - text.rfind("\n", start, where) if breaks else column + where - start
    return Problem(
        code, what, line=line + breaks, column=column, excerpt=shorten(text, start=max(start, where - 20)), fix=fix
    )


def _too_deep(line: int) -> Problem:
    return Problem("D108", f"nested deeper than {DEEPEST}", line=line, fix="flatten the record")


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        node, depth = stack.pop()
        if isinstance(node, dict | list):
            deepest = max(deepest, depth)
            stack.extend((child, depth + 1) for child in (node.values() if isinstance(node, dict) else node))
    return deepest


def _flaw(value: Any) -> str | None:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend((*node.keys(), *node.values()))
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, str):
            if "\0" in node:
                return "invalid control character NUL"
            if lone := next((c for c in node if "\ud800" <= c <= "\udfff"), None):
                return f"lone surrogate \\u{ord(lone):04x}, half of a character"
    return None
