"""Several answers to one prompt: the prompt as turns, each answer as turns, and numbers that say which is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, kind
from sartor.data.formats._fields import prompt as prompt_text
from sartor.data.formats._turns import human_assistant_turns, messages
from sartor.data.rows import Message


def asked(record: Mapping[str, Any]) -> tuple[Message, ...]:
    """The turns of `prompt`: a list of messages, a text, or `Human:`/`Assistant:` text. Raises BadRow."""
    found = record.get("prompt")
    if isinstance(found, list):
        return messages(found, "prompt")
    said = prompt_text(record, "prompt")
    turns = human_assistant_turns(said)
    if turns and turns[-1].role == "assistant" and not turns[-1].content:
        turns = turns[:-1]
    return turns or (Message("user", said),)


def need_answer(turns: tuple[Message, ...], where: str) -> None:
    """Raises BadRow D142 where the turns do not begin with an answer, D120 where nothing is said."""
    if not turns or turns[0].role != "assistant":
        raise BadRow("D142", f"no assistant turn in {where} after what all share", "they must differ in the answer")
    if not any(turn.content.strip() or turn.tool_calls for turn in turns):
        raise BadRow("D120", f"empty answer in {where}")


def number(value: Any, where: str) -> float:
    """A finite number. Raises BadRow D111."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRow("D111", f"{where} is {kind(value)} (a number needed)", "write a number")
    return float(value)
