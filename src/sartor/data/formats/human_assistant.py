"""One text with turns marked ``### Human:`` and ``### Assistant:`` (and ``### System:``).

    {"text": "### Human: What is a pear?### Assistant: A fruit.### Human: And a leek?### Assistant: A vegetable."}

Spaces round a turn are not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, text
from sartor.data.formats._turns import conversation
from sartor.data.rows import Example, Message, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"text": "### Human: What is a pear?### Assistant: A fruit.### Human: And a leek?### Assistant: A vegetable."},
    {"text": "###Human: Hello\n###Assistant: Good day."},
    {"text": "### System: Be brief.\n### Human: Hello\n### Assistant: Hi."},
]
FIELDS: tuple[str, ...] = ("text",)

_TURN = re.compile(r"###[ \t]*(Human|Assistant|System)[ \t]*:")
_ROLES = {"Human": "user", "Assistant": "assistant", "System": "system"}


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the text begins with a marked turn."""
    found = record.get("text")
    return isinstance(found, str) and "label" not in record and _TURN.match(found.lstrip()) is not None


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example; spaces round a turn are not part of it. Raises BadRow."""
    before, *parts = _TURN.split(text(record, "text").lstrip())
    if before and parts:
        raise BadRow("D111", "there is text before the first marked turn", "mark it as ### System:, or take it out")
    turns = [Message(_ROLES[name], said.strip()) for name, said in zip(parts[::2], parts[1::2], strict=True)]
    return Example(origin=origin, messages=conversation(turns))
