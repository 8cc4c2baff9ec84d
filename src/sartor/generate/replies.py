"""Reads what a model was asked to reply as JSON: the object may stand in a fence, or after reasoning and other words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any


def objects(reply: str) -> Iterator[dict[str, Any]]:
    """Every JSON object in a reply. Reasoning in <think> tags does not count."""
    text = re.sub(r"<think>.*?</think>", "", reply, flags=re.DOTALL)
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            body, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(body, dict):
                yield body
        place = text.find("{", end)


def number(value: Any, low: float, high: float) -> float | None:
    """A number from `low` to `high`; None for anything else."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and low <= value <= high else None


def graded(reply: str, scale: int) -> float | None:
    """The score in a reply; None where there is none, several that differ, or one out of the range 0 to `scale`."""
    found = {value for body in objects(reply) if (value := number(body.get("score"), 0, scale)) is not None}
    return found.pop() if len(found) == 1 else None
