"""What every format needs to take a field out of a record, or to say why it cannot."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

GIVE_TEXT = "give it text, or   data: {on_bad: skip}   to leave such rows out and count them"
_VERDICTS = {"true": True, "1": True, "false": False, "0": False}


class BadRow(Exception):
    """A record that is no row: the code, what is wrong, and how to mend it."""

    def __init__(self, code: str, what: str, fix: str = GIVE_TEXT) -> None:
        super().__init__(f"{code}: {what}")
        self.code, self.what, self.fix = code, what, fix


def kind(value: Any) -> str:
    """The JSON name of a value's type, with its article."""
    if value is None:
        return "null"
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        ((int, float), "a number"),
        (str, "text"),
        (Mapping, "an object"),
    )
    return next((name for types, name in names if isinstance(value, types)), "a list")


def value(record: Mapping[str, Any], key: str) -> Any:
    """The field's value. Raises BadRow D111 where it is missing or null."""
    found = record.get(key)
    if found is None:
        if key in record:
            raise BadRow("D111", f'"{key}" is null (text needed)')
        near = nearest(key, record)
        raise BadRow("D111", f'"{key}" is missing' + (f'; is it the column "{near}"?' if near else ""))
    return found


def text(record: Mapping[str, Any], key: str) -> str:
    """A field that must be text. Raises BadRow D111."""
    found = value(record, key)
    if not isinstance(found, str):
        raise BadRow("D111", f'"{key}" is {kind(found)} (text needed)')
    return found


def optional(record: Mapping[str, Any], key: str) -> str:
    """A field that may be missing, null or empty: then ``""``. Raises BadRow D111 for another type."""
    return text(record, key) if record.get(key) is not None else ""


def prompt(record: Mapping[str, Any], key: str) -> str:
    """A field of text that must say something. Raises BadRow D111 or D121."""
    found = text(record, key)
    if not found.strip():
        raise BadRow("D121", f'"{key}" is empty')
    return found


def answer(record: Mapping[str, Any], key: str) -> str:
    """What is learnt: text, or an object or list as compact JSON text in the file's order of keys. Raises BadRow D111, D120."""
    found = value(record, key)
    if isinstance(found, Mapping | list):
        return json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if not isinstance(found, str):
        raise BadRow("D111", f'"{key}" is {kind(found)} (text or an object needed)')
    if not found.strip():
        raise BadRow("D120", "empty answer")
    return found


def verdict(value: Any) -> bool | None:
    """What true, false, 1, 0 or one of these as text means; None for anything else."""
    return _VERDICTS.get(str(value).strip().lower()) if isinstance(value, str | bool | int) else None


def joined(*parts: str) -> str:
    """The parts that say something, a blank line between them."""
    return "\n\n".join(part for part in parts if part.strip())


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant."""
    cutoff = 0.75 if len(name) > 4 else 0.6
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)), None)
