"""A prompt alone: the model writes the answers itself, and is rewarded for them.

    {"prompt": "Name a fruit."}
    {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fruit."}], "level": 2}

Every other column stays with the row, where a reward function finds it. A record with a column that looks like an answer is not
taken for a prompt alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._answers import asked
from sartor.data.formats._fields import BadRow, optional
from sartor.data.formats._turns import tools
from sartor.data.rows import Message, Origin, Prompt, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"prompt": "Name a fruit."},
    {"prompt": "Name a fruit.", "system": "Be brief.", "level": 3},
    {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fruit."}], "level": 2},
]
FIELDS: tuple[str, ...] = ("prompt", "system", "tools")

_OTHERS = ("completion", "chosen", "rejected", "answers", "messages", "conversations")
"""What makes a record one of another form."""
_WORDS = """
    answer output reply response summary target translation json category class intent label labels sentiment score text
    instruction question
"""
_ANSWERS = frozenset([*_OTHERS, *_WORDS.split()])


def detects(record: Mapping[str, Any]) -> bool:
    """Whether there is a prompt, and no column beside it that looks like an answer or a question."""
    return "prompt" in record and not any(name.lower() in _ANSWERS for name in record)


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """A Prompt. Raises BadRow."""
    for name in _OTHERS:
        if name in record:
            raise BadRow("D111", f'"{name}" beside a prompt that is to be answered', "leave it out, or name the format")
    turns = [Message("system", system)] if (system := optional(record, "system")).strip() else []
    turns += asked(record)
    if turns[-1].role not in ("user", "tool"):
        raise BadRow("D142", f"the last turn is of the {turns[-1].role}", "a prompt ends with what is to be answered")
    for number, turn in enumerate(turns, 1):
        if turn.role == "user" and not turn.content.strip():
            raise BadRow("D121", f"turn {number}, of the user, is empty")
    return Prompt(origin=origin, messages=tuple(turns), tools=tools(record.get("tools")))
