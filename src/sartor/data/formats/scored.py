"""A text, or two, and a number that is learnt.

    {"sentence1": "A man plays a guitar.", "sentence2": "Someone makes music.", "score": 3.2}

One text is the column `text`. A number written as text counts as a number. A text of the web with the mark that somebody gave
it for quality, which has an address beside it, is not taken for a text to be scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, kind, prompt, value
from sartor.data.rows import Message, Origin, Row, Scored
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"text": "A waste of time.", "score": 1},
    {"sentence1": "A man plays a guitar.", "sentence2": "Someone makes music.", "score": 3.2},
    {"text": "The best evening of the year.", "score": "4.5", "source": "mail"},
]
PAIR = ("sentence1", "sentence2")
_WEB = frozenset({"url", "dump", "language_score", "int_score"})
FIELDS: tuple[str, ...] = ("text", *PAIR, "score")
GIVE_NUMBER = "give it a number, or   data: {on_bad: skip}   to leave such rows out and count them"


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has a score, and one text or two; a text with a label is labelled, whatever else it has."""
    if "score" not in record or "label" in record or "labels" in record or not _WEB.isdisjoint(record):
        return False
    return "text" in record or all(name in record for name in PAIR)


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """A Scored. Raises BadRow."""
    names = PAIR if PAIR[0] in record or PAIR[1] in record else ("text",)
    score = _number(value(record, "score"))
    turns = [Message("user", prompt(record, name)) for name in names]
    return Scored(origin=origin, messages=(*turns, Message("assistant", json.dumps(score))), score=score)


def _number(found: Any) -> float:
    number = found
    if isinstance(found, str):
        try:
            number = float(found)
        except ValueError:
            raise BadRow("D111", f'"score" is {found[:40]!r} (a number needed)', GIVE_NUMBER) from None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise BadRow("D111", f'"score" is {kind(found)} (a number needed)', GIVE_NUMBER)
    if abs(number) > 1e30 or not math.isfinite(number):
        raise BadRow("D111", '"score" is no number that can be learnt', GIVE_NUMBER)
    return float(number)
