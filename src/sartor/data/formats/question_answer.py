"""A question and its answer, with the passage it is about where there is one.

    {"question": "How many eggs are left?", "answer": "16 - 3 = 13\n#### 13"}
    {"context": "Emma is a novel by Jane Austen.", "question": "Who wrote Emma?", "answer": "Jane Austen"}
    {"image": "digits/7.png", "question": "What digit is shown?", "answer": "seven"}

The user's turn is the images, the context, a blank line, and the question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import answer, joined, optional, prompt
from sartor.data.formats._images import COLUMNS, with_images
from sartor.data.rows import Example, Message, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"question": "How many eggs are left?", "answer": "16 - 3 = 13\n#### 13"},
    {"context": "Emma is a novel by Jane Austen.", "question": "Who wrote Emma?", "answer": "Jane Austen"},
]
FIELDS: tuple[str, ...] = ("question", "answer", "context", *COLUMNS)


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has a question and an answer."""
    return "question" in record and "answer" in record


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example. Raises BadRow."""
    asked = joined(optional(record, "context"), prompt(record, "question"))
    turns = (Message("user", asked), Message("assistant", answer(record, "answer")))
    return Example(origin=origin, messages=with_images(turns, record))
