"""What every source yields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_WIDTH = 60
_LONGEST = 400


@dataclass(slots=True)
class Record:
    """One record as read: its columns, the 1-based line it begins on (or its number, for files without lines)."""

    value: Mapping[str, Any]
    line: int
    text: str | None = None
    """The record as written, where the source has it at hand."""

    @property
    def excerpt(self) -> str:
        """The first characters of the record, on one line."""
        return shorten(json.dumps(self.value, ensure_ascii=False, default=str) if self.text is None else self.text)


def shorten(text: str, *, start: int = 0, width: int = _WIDTH) -> str:
    """`width` characters of `text` from `start`, on one line, what cannot be shown escaped, cuts marked by dots."""
    cut = text[start : start + width].strip()
    shown = "".join(character if character.isprintable() else _escaped(character) for character in cut)
    return ("... " if start else "") + shown + (" ..." if text[start + width :].strip() else "")


def visible(text: str) -> str:
    """The text with what cannot be shown escaped, cut where a message would grow too long."""
    return text if text.isprintable() and len(text) <= _LONGEST else shorten(text, width=_LONGEST)


def _escaped(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\u{ord(character):04x}")
