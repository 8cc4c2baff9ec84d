"""A prompt, one completion, and whether it was liked.

    {"prompt": "Name a fruit.", "completion": "Pear.", "label": true}

The label is true or false (also 1 and 0, or the words). Prompt and completion may be lists of messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats import prompt_completion
from sartor.data.formats._fields import BadRow, kind, value, verdict
from sartor.data.rows import Example, Judged, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"prompt": "Name a fruit.", "completion": "Pear.", "label": True},
    {"prompt": "Name a fruit.", "completion": "Leek.", "label": 0},
    {
        "prompt": [{"role": "user", "content": "Name a fruit."}],
        "completion": [{"role": "assistant", "content": "Plum."}],
        "label": "true",
    },
]
FIELDS: tuple[str, ...] = ("prompt", "completion", "label")


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has a prompt, a completion and a label that is a verdict, or null."""
    label = record.get("label", ...)
    return "prompt" in record and "completion" in record and (label is None or verdict(label) is not None)


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """A Judged. Raises BadRow."""
    row = prompt_completion.parse(record, origin)
    assert isinstance(row, Example)
    label = value(record, "label")
    liked = verdict(label)
    if liked is None:
        shown = f' "{label[:40]}"' if isinstance(label, str) else f" {kind(label)}"
        raise BadRow("D111", f'"label" is{shown} (true or false needed)', "write true or false")
    first = next(index for index, turn in enumerate(row.messages) if turn.role == "assistant")
    if isinstance(record["prompt"], list):
        first = len(record["prompt"])
    return Judged(origin=origin, prompt=row.messages[:first], completion=row.messages[first:], liked=liked)
