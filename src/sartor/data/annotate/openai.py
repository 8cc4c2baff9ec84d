"""The files of OpenAI's fine-tuning: chats, and preferences between two answers.

{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "refund"}]}
{"input": {"messages": [...]}, "preferred_output": [{"role": "assistant", "content": "..."}], "non_preferred_output": [...]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sartor.data import reading, release
from sartor.data.annotate.items import Answer, Item, Shown, keyed, turns_of
from sartor.data.annotate.label_studio import Given
from sartor.data.annotate.resolve import Pair
from sartor.data.formats._fields import BadRow
from sartor.data.formats._turns import messages
from sartor.data.release import OTHER, PREFERRED
from sartor.data.rows import Origin
from sartor.errors import DataError, Problem

CHOSEN: Sequence[Sequence[int]] = ((1,), (0,))


def chat(item: Item, label: str) -> dict[str, Any]:
    """A labelled row as a chat whose answer is the label."""
    return {"messages": [*_turns(item), {"role": "assistant", "content": label}]}


def preference(pair: Pair) -> dict[str, Any]:
    """A preference between two answers."""
    better, worse = (pair.item.answers[place].text for place in (pair.better, pair.worse))
    said = ([{"role": "assistant", "content": text}] for text in (better, worse))
    return release.preference(_turns(pair.item), *said)


def read_preferences(path: Path, *, label: str, annotator: str) -> tuple[list[Item], list[Given]]:
    """(items of two answers, the ranking of each) of a preference file. Raises DataError A112 with every bad row."""
    found: list[Shown] = []
    problems: list[Problem] = []
    for record in reading.records(path):
        if isinstance(record, Problem):
            problems += [record] if record.level == "error" else []
            continue
        try:
            found.append(_pair(record.value, Origin(label, record.line)))
        except BadRow as bad:
            problems.append(Problem(bad.code, bad.what, label, record.line, excerpt=record.excerpt, fix=bad.fix))
    if problems:
        raise DataError(*problems)
    items = keyed(found)
    ranking = tuple(tuple(level) for level in CHOSEN)
    return items, [Given(annotator, item.key, ranking=ranking) for item in items]


def read_chats(path: Path, *, label: str, annotator: str) -> tuple[list[Item], list[Given]]:
    """(items, the last assistant turn of each as its label) of a chat file. Raises DataError A112 with every bad row."""
    found: list[Shown] = []
    said: list[str] = []
    problems: list[Problem] = []
    for record in reading.records(path):
        if isinstance(record, Problem):
            problems += [record] if record.level == "error" else []
            continue
        try:
            turns = messages(record.value.get("messages"), "messages")
            if len(turns) < 2 or turns[-1].role != "assistant" or not turns[-1].content.strip():
                raise BadRow("A112", "the last message is no answer of the assistant", "it is taken for the label")
            found.append(Shown(Origin(label, record.line), None, turns_of(turns[:-1]), (), {}))
            said.append(turns[-1].content.strip())
        except BadRow as bad:
            problems.append(Problem(bad.code, bad.what, label, record.line, excerpt=record.excerpt, fix=bad.fix))
    if problems:
        raise DataError(*problems)
    items = keyed(found)
    return items, [Given(annotator, item.key, label=name) for item, name in zip(items, said, strict=True)]


def detects(record: Mapping[str, Any]) -> bool:
    """Whether this is a line of a preference file."""
    return PREFERRED in record and OTHER in record


def _turns(item: Item) -> list[dict[str, str]]:
    return [{"role": turn.role or "user", "content": turn.text} for turn in item.turns]


def _pair(record: Mapping[str, Any], origin: Origin) -> Shown:
    given = record.get("input")
    asked = given.get("messages") if isinstance(given, Mapping) else None
    if not isinstance(asked, list):
        raise BadRow("A112", '"input" has no list of messages', 'write {"input": {"messages": [...]}, ...}')
    answers = tuple(Answer(_only(record, name)) for name in (PREFERRED, OTHER))
    return Shown(origin, None, turns_of(messages(asked, "input.messages")), answers, {"prompt": asked})


def _only(record: Mapping[str, Any], name: str) -> str:
    given = record.get(name)
    turns = messages(given, name) if isinstance(given, list) else ()
    if len(turns) != 1 or not turns[0].content.strip():
        raise BadRow("A112", f'"{name}" is not one message with text', "give one assistant message")
    return turns[0].content
