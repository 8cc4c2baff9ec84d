"""Instruction, optional input, output.

    {"instruction": "Translate to French.", "input": "Good morning.", "output": "Bonjour."}

The user's turn is the instruction and, after a blank line, the input. `history` holds earlier (instruction, output) pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, answer, joined, kind, optional, prompt
from sartor.data.formats._images import COLUMNS, with_images
from sartor.data.formats._turns import conversation
from sartor.data.rows import Example, Message, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"instruction": "Translate to French.", "input": "Good morning.", "output": "Bonjour."},
    {"instruction": "Name a colour.", "input": "", "output": "Blue."},
    {"instruction": "Name a fruit.", "output": "Pear.", "system": "Answer in one word."},
    {"instruction": "And another?", "output": "Plum.", "history": [["Name a fruit.", "Pear."]]},
]
FIELDS: tuple[str, ...] = ("instruction", "input", "output", "system", "history", *COLUMNS)


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has an instruction and an output."""
    return "instruction" in record and "output" in record


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example. Raises BadRow."""
    turns = [Message("system", system)] if (system := optional(record, "system")).strip() else []
    for asked, said in _history(record.get("history")):
        turns += [Message("user", asked), Message("assistant", said)]
    asked = joined(optional(record, "instruction"), optional(record, "input"))
    turns += [Message("user", asked or prompt(record, "instruction")), Message("assistant", answer(record, "output"))]
    return Example(origin=origin, messages=with_images(conversation(turns), record))


def _history(pairs: Any) -> list[tuple[str, str]]:
    if pairs is None:
        return []
    if not isinstance(pairs, list):
        raise BadRow("D111", f'"history" is {kind(pairs)} (a list of pairs needed)')
    for index, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise BadRow("D111", f'"history"[{index}] is no pair of texts', 'write ["instruction", "output"]')
    return [(asked, said) for asked, said in pairs]
