r"""A better and a worse answer to one prompt.

    {"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Leek."}
    {"chosen": "\n\nHuman: Name a fruit.\n\nAssistant: Pear.", "rejected": "\n\nHuman: Name a fruit.\n\nAssistant: Leek."}

Each of the three may also be a list of messages. Without a prompt, the turns that both answers begin with are the prompt.
How much better the better one is may be said by `margin`, or by a score of each:

    {"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Leek.", "margin": 2}
    {"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Leek.", "score_chosen": 9, "score_rejected": 3.5}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sartor.data.formats._answers import asked, need_answer, number
from sartor.data.formats._fields import BadRow, answer, kind, value
from sartor.data.formats._images import COLUMNS, with_images
from sartor.data.formats._turns import human_assistant_turns, messages
from sartor.data.rows import Message, Origin, Preference, Row
from sartor.options import NoOptions as Options

__all__ = ["FIELDS", "SAMPLES", "Options", "detects", "parse"]

SAMPLES: list[dict[str, Any]] = [
    {"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Leek."},
    {
        "chosen": "\n\nHuman: Name a fruit.\n\nAssistant: Pear.",
        "rejected": "\n\nHuman: Name a fruit.\n\nAssistant: Leek.",
    },
    {
        "chosen": [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "Pear."}],
        "rejected": [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "Leek."}],
    },
    {
        "prompt": [{"role": "user", "content": "Name a fruit."}],
        "chosen": [{"role": "assistant", "content": "Pear."}],
        "rejected": [{"role": "assistant", "content": "Leek."}],
    },
    {"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Leek.", "margin": 2},
    {"prompt": "Name a fruit.", "chosen": "Pear.", "rejected": "Leek.", "score_chosen": 9, "score_rejected": 3.5},
]
FIELDS: tuple[str, ...] = ("prompt", "chosen", "rejected", "margin", "score_chosen", "score_rejected", *COLUMNS)


def detects(record: Mapping[str, Any]) -> bool:
    """Whether the record has a chosen and a rejected answer."""
    return "chosen" in record and "rejected" in record


def parse(record: Mapping[str, Any], origin: Origin) -> Row:
    """A Preference. Raises BadRow."""
    prompt = _prompt(record)
    chosen, rejected = _answer(record, "chosen", alone=bool(prompt)), _answer(record, "rejected", alone=bool(prompt))
    if chosen == rejected:
        raise BadRow("D170", "chosen and rejected are the same", "give two answers that differ")
    shared = _shared(chosen, rejected)
    if prompt:
        shared = len(prompt) if chosen[: len(prompt)] == rejected[: len(prompt)] == prompt else 0
        prompt, chosen, rejected = prompt, chosen[shared:], rejected[shared:]
    else:
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if not prompt:
        raise BadRow("D111", '"prompt" is missing, and chosen and rejected do not begin with the same turn')
    prompt = with_images(prompt, record)
    need_answer(chosen, '"chosen"')
    need_answer(rejected, '"rejected"')
    return Preference(origin=origin, prompt=prompt, chosen=chosen, rejected=rejected, margin=_margin(record))


def _prompt(record: Mapping[str, Any]) -> tuple[Message, ...]:
    return () if record.get("prompt") is None and "prompt" not in record else asked(record)


def _margin(record: Mapping[str, Any]) -> float | None:
    """How much better the chosen answer is, by `margin` or else by the two scores; None where that is not said."""
    names = ("margin",) if record.get("margin") is not None else ("score_chosen", "score_rejected")
    if all(record.get(name) is None for name in names):
        return None
    numbers = [number(value(record, name), f'"{name}"') for name in names]
    margin = numbers[0] - sum(numbers[1:])
    if margin < 0:
        what = '"margin" is below 0' if len(names) == 1 else '"score_chosen" is below "score_rejected"'
        raise BadRow("D111", what, "the chosen answer is the better one: exchange the two, or mend the number")
    return margin


def _answer(record: Mapping[str, Any], key: str, *, alone: bool) -> tuple[Message, ...]:
    found = value(record, key)
    if isinstance(found, list) and found and isinstance(found[0], Mapping) and "role" in found[0]:
        return messages(found, key)
    if isinstance(found, str) and (turns := human_assistant_turns(found)):
        return turns
    if alone:
        return (Message("assistant", answer(record, key)),)
    if isinstance(found, str) and found.strip():
        raise BadRow(
            "D111", '"prompt" is missing', "add the prompt, or write whole conversations into chosen and rejected"
        )
    if isinstance(found, str):
        raise BadRow("D120", f'empty answer in "{key}"')
    raise BadRow("D111", f'"{key}" is {kind(found)} (text or a list of messages needed)')


def _shared(one: tuple[Message, ...], other: tuple[Message, ...]) -> int:
    most = min(len(one), len(other)) - 1
    return next((index for index in range(most) if one[index] != other[index]), max(most, 0))
