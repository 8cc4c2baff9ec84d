"""Writes a changed row as a record: in the columns of the record it was read from, or in a form of our own.

    {"text": "caf?", "label": "food", "day": 3}   ->   {"text": "cafe", "label": "food", "day": 3}

Formats can be read only, and a record may hold a text in many ways: in a column of its own, inside a conversation, joined with
another one. So the changed values are put in their places, and the record is read again: it counts only where the row comes out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sartor.data.formats._fields import BadRow
from sartor.data.ledger import difference
from sartor.data.recognition import Shape
from sartor.data.rows import (
    IMAGE,
    MARK,
    Example,
    Judged,
    Labelled,
    Message,
    Preference,
    Prompt,
    Ranking,
    Row,
    Scored,
    Tagged,
    Text,
)

PAIR = ("sentence1", "sentence2")
"""Columns of two texts that are scored together."""
Changes = Mapping[str, str]
"""Old text -> new text."""


def as_read(record: Mapping[str, Any], before: Row, after: Row, shape: Shape) -> dict[str, Any] | None:
    """The record from which `before` was read, with what makes it `after`; None where that cannot be written in this form."""
    if _same(before, after) and before.columns == after.columns:
        return dict(record)
    olds, news = difference(before, after)
    texts = [(old, news[path]) for path, old in olds.items() if isinstance(old, str) and isinstance(news[path], str)]
    changes = {MARK.sub("", old): MARK.sub("", new) for old, new in texts}
    others = {name: after.columns.get(name, value) for name, value in record.items() if name not in shape.taken}
    own = {name: value for name, value in record.items() if name in shape.taken}
    for candidate in _candidates(own, changes):
        if _reads_as(candidate, after, shape):
            return {name: candidate[name] if name in candidate else others[name] for name in record}
    return None


def as_ours(row: Row) -> dict[str, Any]:
    """The row as messages, text, preference, judged, ranking, scored, labelled, tagged or prompt record, its other columns beside it."""
    match row:
        case Scored():
            body: dict[str, Any] = dict(zip(PAIR if len(row.texts()) > 1 else ("text",), row.texts(), strict=True))
            body["score"] = row.score
        case Labelled():
            body = {"text": row.prompt_text(), "labels": list(row.labels)}
        case Tagged():
            body = {"tokens": list(row.tokens), "tags": list(row.tags)}
        case Example(paired=True):
            body = {**dict(zip(PAIR, row.texts(), strict=True)), "label": row.label}
        case Example():
            body = {"messages": [_turn(turn) for turn in row.messages]}
            if row.tools:
                body["tools"] = [dict(tool) for tool in row.tools]
        case Text():
            body = {"text": row.text}
        case Preference():
            parts = {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
            body = {name: [_turn(turn) for turn in turns] for name, turns in parts.items()}
            body |= {} if row.margin is None else {"margin": row.margin}
        case Judged():
            parts = {"prompt": row.prompt, "completion": row.completion}
            body = {name: [_turn(turn) for turn in turns] for name, turns in parts.items()} | {"label": row.liked}
        case Ranking():
            answers = [[_turn(turn) for turn in turns] for turns in row.answers]
            body = {"prompt": [_turn(turn) for turn in row.prompt], "answers": answers, "scores": list(row.scores)}
        case Prompt():
            body = {"prompt": [_turn(turn) for turn in row.messages]}
            if row.tools:
                body["tools"] = [dict(tool) for tool in row.tools]
        case _:
            raise TypeError(f"{type(row).__name__} has no form of ours")
    return body | {name: value for name, value in row.columns.items() if name not in body}


def _turn(turn: Message) -> dict[str, Any]:
    return turn.template() if turn.weight is None else turn.template() | {"weight": turn.weight}


def _same(one: Row, other: Row) -> bool:
    """Whether the rows are equal in what a format reads, which of images is where they stand."""
    bare = [replace(_unseen(row), id=None, group=None, columns={}) for row in (one, other)]
    return bare[0] == bare[1]


def _unseen(row: Row) -> Row:
    """The row without what its images are."""
    for name in ("messages", "prompt"):
        turns = getattr(row, name, None)
        if isinstance(turns, tuple) and any(turn.images for turn in turns):
            bare = tuple([replace(turn, content=MARK.sub(IMAGE, turn.content), images=()) for turn in turns])
            bare_row: dict[str, Any] = {name: bare}
            row = replace(row, **bare_row)
    return row


def _reads_as(record: Mapping[str, Any], row: Row, shape: Shape) -> bool:
    try:
        return _same(shape.row(record, row.origin), row)
    except BadRow:
        return False


def _candidates(record: dict[str, Any], changes: Changes) -> Iterator[dict[str, Any]]:
    """Ways to put the new texts in, the most literal first."""
    yield _inside(record, lambda value: _exchanged(value, changes))
    yield from _in_one_place(record, changes)
    longest = sorted(changes, key=len, reverse=True)

    def within(value: Any) -> Any:
        if not isinstance(value, str):
            return _exchanged(value, changes)
        for old in longest:
            if old and old in value:
                value = value.replace(old, changes[old])
        return value

    yield _inside(record, within)
    yield from _parted(record, changes)


def _exchanged(value: Any, changes: Changes) -> Any:
    """The new value of one that is a changed text, perhaps written as a number or an object."""
    written = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, str) and value in changes:
        return changes[value]
    if written not in changes:
        return value
    new = changes[written]
    if isinstance(value, dict | list):
        try:
            body = json.loads(new)
        except ValueError:
            return new
        return body if isinstance(body, dict | list) else new
    return new


def _inside(value: Any, change: Callable[[Any], Any]) -> Any:
    """A JSON value with `change` done to every value in it; to a list or object before what is in it."""
    new = change(value)
    if new is not value:
        return new
    if isinstance(value, dict):
        return {name: _inside(entry, change) for name, entry in value.items()}
    return [_inside(entry, change) for entry in value] if isinstance(value, list) else value


def _in_one_place(record: dict[str, Any], changes: Changes) -> Iterator[dict[str, Any]]:
    """Each new text in one place only, the first, the second and so on: a prompt may say the same as its answer."""
    many = max((sum(value == old for value in _leaves(record)) for old in changes), default=0)
    for place in range(many if many > 1 else 0):
        yield _inside(record, partial(_exchanged_at, changes=changes, place=place, met={}))


def _exchanged_at(value: Any, changes: Changes, place: int, met: dict[str, int]) -> Any:
    if not isinstance(value, str) or value not in changes:
        return _exchanged(value, changes)
    met[value] = met.get(value, -1) + 1
    return changes[value] if met[value] == place else value


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _leaves(entry)


def _parted(record: dict[str, Any], changes: Changes) -> Iterator[dict[str, Any]]:
    """A text that was joined of two columns by a blank line, such as Alpaca's instruction and input, parted again."""
    plain = {name: value for name, value in record.items() if isinstance(value, str) and value.strip()}
    for one, first in plain.items():
        for other, second in plain.items():
            joined = next((old for old in changes if one != other and old == f"{first}\n\n{second}"), None)
            if joined is None:
                continue
            parts = changes[joined].split("\n\n")
            count = first.count("\n\n") + 1
            others = {name: entry for name, entry in record.items() if name not in (one, other)}
            changed = _inside(others, partial(_exchanged, changes=changes))
            for head, tail in (("\n\n".join(parts[:count]), "\n\n".join(parts[count:])), (changes[joined], "")):
                yield {**changed, one: head, other: tail}
