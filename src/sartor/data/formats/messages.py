"""A conversation in the OpenAI shape.

    {"messages": [{"role": "user", "content": "What is a pear?"}, {"role": "assistant", "content": "A fruit."}]}

Roles: system (or developer), user, assistant, tool. A message may have `weight` (its share in the loss) or `train` (true or
false), `reasoning_content`, `tool_calls`, `tool_call_id` and `name`; content may be a list of parts: texts, which are joined, and images.
Reasoning written as ``<think>...</think>`` inside the content stays there as it is. `tools` stands beside the messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats import _turns
from sartor.data.formats._fields import value
from sartor.data.formats._images import COLUMNS, with_images
from sartor.data.rows import Example, Origin, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "What is a pear?"}, {"role": "assistant", "content": "A fruit."}]},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]},
            {"role": "assistant", "content": "4", "reasoning_content": "Two and two.", "weight": 0.5},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes.", "train": True},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Is it raining in Bern?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": '{"rain": true}'},
            {"role": "assistant", "content": "Yes, it is."},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        "customer": 7,
    },
]
FIELDS: tuple[str, ...] = ("messages", "tools", *COLUMNS)


def detects(record: Mapping[str, Any]) -> bool:
    """Whether there are messages."""
    return "messages" in record


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """An Example. Raises BadRow."""
    turns = _turns.conversation(_turns.messages(value(record, "messages"), "messages"))
    return Example(origin=origin, messages=with_images(turns, record), tools=_turns.tools(record.get("tools")))
