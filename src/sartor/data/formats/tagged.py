"""Words with a tag each, such as the names in a sentence (B- begins one, I- goes on with it, O is none).

    {"tokens": ["Ada", "Lovelace", "wrote", "it", "."], "tags": ["B-PER", "I-PER", "O", "O", "O"]}

Numbers become their digits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, kind, value
from sartor.data.rows import Origin, Row, Tagged
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"tokens": ["Ada", "Lovelace", "wrote", "it", "."], "tags": ["B-PER", "I-PER", "O", "O", "O"]},
    {"tokens": ["it", "rains"], "tags": [0, 1], "source": "book"},
]
FIELDS: tuple[str, ...] = ("tokens", "tags")
FIX = "one tag for each word: tokens and tags are lists of the same length"


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has words and tags."""
    return "tokens" in record and "tags" in record


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """A Tagged. Raises BadRow."""
    tokens, tags = (_list(record, name) for name in FIELDS)
    if not tokens:
        raise BadRow("D121", '"tokens" is empty')
    if len(tokens) != len(tags):
        raise BadRow("D111", f'"tokens" has {len(tokens)} entries, "tags" {len(tags)}', FIX)
    return Tagged(origin=origin, tokens=tokens, tags=tags)


def _list(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = value(record, name)
    if not isinstance(found, list):
        raise BadRow("D111", f'"{name}" is {kind(found)} (a list needed)', FIX)
    return tuple([_word(one, name) for one in found])


def _word(found: Any, name: str) -> str:
    if isinstance(found, bool | int | float):
        return json.dumps(found)
    if not isinstance(found, str) or not found.strip():
        said = "empty text" if isinstance(found, str) else kind(found)
        raise BadRow("D111", f'"{name}" holds {said} (text needed)', FIX)
    return found.strip()
