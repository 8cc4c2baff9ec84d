"""A prompt and its completion.

    {"prompt": "Where is my order?", "completion": "It left our warehouse today."}
    {"prompt": "Book a table for two", "completion": {"intent": "book", "guests": 2}}

A completion that is an object or a list is learnt as compact JSON text, its keys in the order of the file. Prompt and
completion may also be lists of messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import answer, optional, prompt, verdict
from sartor.data.formats._images import COLUMNS, with_images
from sartor.data.formats._turns import conversation, messages
from sartor.data.rows import Example, Message, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"prompt": "Where is my order?", "completion": "It left our warehouse today."},
    {"prompt": "Book a table for two", "completion": {"intent": "book", "guests": 2}, "source": "phone"},
    {"prompt": "Which colours?", "completion": ["red", "green"], "system": "Answer with a JSON list."},
    {"prompt": [{"role": "user", "content": "Hello"}], "completion": [{"role": "assistant", "content": "Good day."}]},
]
FIELDS: tuple[str, ...] = ("prompt", "completion", "system", *COLUMNS)


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has a prompt and a completion, and no verdict on them."""
    return "prompt" in record and "completion" in record and not _judged(record)


def _judged(record: Mapping[str, Any]) -> bool:
    return "label" in record and (record["label"] is None or verdict(record["label"]) is not None)


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example. Raises BadRow."""
    turns = [Message("system", system)] if (system := optional(record, "system")).strip() else []
    if isinstance(record.get("prompt"), list):
        turns += messages(record["prompt"], "prompt")
    else:
        turns.append(Message("user", prompt(record, "prompt")))
    if _has_turns(record.get("completion")):
        turns += messages(record["completion"], "completion")
    else:
        turns.append(Message("assistant", answer(record, "completion")))
    return Example(origin=origin, messages=with_images(conversation(turns), record))


def _has_turns(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(turn, Mapping) and "role" in turn for turn in value)
