"""A text and its label; the label is what the model answers.

    {"text": "My card has not arrived yet.", "label": "card_arrival"}

A number becomes its digits, true and false their names. The split keeps the share of each label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, kind, prompt, value
from sartor.data.rows import Example, Message, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "label_of", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"text": "My card has not arrived yet.", "label": "card_arrival"},
    {"text": "A waste of time.", "label": 0},
    {"text": "You have won a prize!", "label": True, "source": "mail"},
]
FIELDS: tuple[str, ...] = ("text", "label")


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has a text and a label."""
    return "text" in record and "label" in record


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example with `label` and `stratum`. Raises BadRow."""
    label = label_of(value(record, "label"))
    turns = (Message("user", prompt(record, "text")), Message("assistant", label))
    return Example(origin=origin, messages=turns, label=label, stratum=label)


def label_of(found: Any) -> str:
    """A label as text. Raises BadRow."""
    if isinstance(found, bool | int | float):
        return json.dumps(found)
    if not isinstance(found, str):
        raise BadRow("D111", f'"label" is {kind(found)} (text, a number, true or false needed)', "one label per row")
    if not found.strip():
        raise BadRow("D120", "empty answer")
    return found.strip()
