"""ShareGPT: a conversation of {from, value}.

    {"conversations": [{"from": "human", "value": "What is a pear?"}, {"from": "gpt", "value": "A fruit."}]}

`from` is human, gpt, system, function_call or observation, or one of the other names in the table below. `system` and
`tools` may stand beside the conversation, and so may `image` or `images`, for `<image>` in its texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._fields import BadRow, kind, nearest, optional
from sartor.data.formats._images import COLUMNS, with_images
from sartor.data.formats._turns import call, conversation, parsed, role_unknown, tools
from sartor.data.rows import Example, Message, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"conversations": [{"from": "human", "value": "What is a pear?"}, {"from": "gpt", "value": "A fruit."}]},
    {
        "conversations": [
            {"from": "human", "value": "Is it raining in Bern?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Bern"}}'},
            {"from": "observation", "value": '{"rain": true}'},
            {"from": "gpt", "value": "Yes, it is."},
        ],
        "system": "Use the tools.",
        "tools": '[{"name": "weather", "parameters": {"type": "object"}}]',
    },
]
FIELDS: tuple[str, ...] = ("conversations", "system", "tools", *COLUMNS)

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "function_call": "call",
    "tool_call": "call",
    "observation": "tool",
    "function_response": "tool",
    "tool": "tool",
}


def detects(record: Mapping[str, Any]) -> bool:
    """Whether there is a conversation whose turns do not say `role`."""
    turns = record.get("conversations", ...)
    if not isinstance(turns, list):
        return turns is not ...
    return not (turns and isinstance(turns[0], Mapping) and "role" in turns[0])


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example. Raises BadRow."""
    said = record.get("conversations")
    if not isinstance(said, list) or not said:
        state = "is an empty list" if said == [] else f"is {kind(said)} (a list of turns needed)"
        raise BadRow("D111", f'"conversations" {state}')
    turns = [_turn(turn, f"conversations[{index}]") for index, turn in enumerate(said)]
    if (system := optional(record, "system")).strip() and turns[0].role != "system":
        turns.insert(0, Message("system", system))
    return Example(origin=origin, messages=with_images(conversation(turns), record), tools=tools(record.get("tools")))


def _turn(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise BadRow("D111", f"{where} is {kind(turn)} (an object with from and value needed)")
    for key in ("from", "value"):
        if not isinstance(turn.get(key), str):
            near = nearest(key, turn) if key not in turn else None
            state = f"is {kind(turn[key])}" if key in turn else "is missing" + (f'; is it "{near}"?' if near else "")
            raise BadRow("D111", f"{where}.{key} {state}")
    role, value = _ROLES.get(turn["from"].lower()), turn["value"]
    if role is None:
        raise role_unknown(turn["from"], tuple(_ROLES), where)
    if role != "call":
        return Message(role, value)
    return Message("assistant", "", tool_calls=_calls(value, where))


def _calls(value: str, where: str) -> tuple[Mapping[str, Any], ...]:
    entries = parsed(value, f"{where}.value")
    return tuple(call(entry, f"{where}.value") for entry in (entries if isinstance(entries, list) else [entries]))
