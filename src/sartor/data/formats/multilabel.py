"""A text and all its labels, of which there may be none.

    {"text": "My card was charged twice, please hurry!", "labels": ["billing", "urgent"]}

Labels are sorted, each once; numbers become their digits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, kind, prompt, value
from sartor.data.rows import Labelled, Message, Origin, Row, listed
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"text": "My card was charged twice, please hurry!", "labels": ["billing", "urgent"]},
    {"text": "Thank you.", "labels": []},
    {"text": "Where is my parcel?", "labels": ["delivery"], "source": "mail"},
]
FIELDS: tuple[str, ...] = ("text", "labels")


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has a text and a list of labels."""
    return "text" in record and isinstance(record.get("labels"), list) and "label" not in record


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """A Labelled. Raises BadRow."""
    found = value(record, "labels")
    if not isinstance(found, list):
        raise BadRow("D111", f'"labels" is {kind(found)} (a list of labels needed)', "labels: [one, another]")
    labels = tuple(sorted({_label(one) for one in found}))
    turns = (Message("user", prompt(record, "text")), Message("assistant", listed(labels)))
    return Labelled(origin=origin, messages=turns, labels=labels, stratum=listed(labels))


def _label(found: Any) -> str:
    if isinstance(found, bool | int | float):
        return json.dumps(found)
    if not isinstance(found, str) or not found.strip():
        said = "empty text" if isinstance(found, str) else kind(found)
        raise BadRow("D111", f'"labels" holds {said} (text needed)', "labels: [one, another]")
    return found.strip()
