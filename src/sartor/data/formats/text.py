"""Raw text; every token is learnt.

    {"text": "Anarchism is a political philosophy and movement.", "url": "https://example.org"}

A record with a column that looks like an answer, a label or a question beside the text is not taken for raw text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats import _fields, human_assistant, scored
from sartor.data.rows import Origin, Row, Text
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"text": "It was a good year for apples. The harvest began early."},
    {"text": "The pears were late.", "url": "https://example.org/pears"},
]
FIELDS: tuple[str, ...] = ("text",)

_WORDS = """
    answer answers completion output reply response summary target translation json category class intent label labels sentiment
    chosen rejected conversations messages instruction prompt query question
"""
_ANSWERS = frozenset(_WORDS.split())


def detects(record: Mapping[str, Any]) -> bool:
    """Whether there is a text, and no column beside it that looks like an answer, a label or a question."""
    if "text" not in record or human_assistant.detects(record) or scored.detects(record):
        return False
    return len(record) == 1 or not any(name.lower() in _ANSWERS for name in record)


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """A Text. Raises BadRow."""
    return Text(origin=origin, text=_fields.prompt(record, "text"))
