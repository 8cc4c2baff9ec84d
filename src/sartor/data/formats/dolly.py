"""Instruction, optional context, response.

    {"instruction": "Who wrote it?", "context": "Emma is a novel by Jane Austen.", "response": "Jane Austen.", "category": "closed_qa"}

The user's turn is the instruction and, after a blank line, the context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import answer, joined, optional, prompt
from sartor.data.rows import Example, Message, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"instruction": "Who wrote it?", "context": "Emma is a novel by Jane Austen.", "response": "Jane Austen."},
    {"instruction": "Name a colour.", "context": "", "response": "Blue.", "category": "open_qa"},
    {"instruction": "Name a colour.", "response": "Green."},
]
FIELDS: tuple[str, ...] = ("instruction", "context", "response")


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has an instruction and a response."""
    return "instruction" in record and "response" in record and "output" not in record


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example. Raises BadRow."""
    asked = joined(prompt(record, "instruction"), optional(record, "context"))
    return Example(origin=origin, messages=(Message("user", asked), Message("assistant", answer(record, "response"))))
