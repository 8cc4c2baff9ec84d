"""What annotators are shown: a text to label, or a prompt with answers to rank.

    {"text": "My card has not arrived yet."}                                         label this
    {"prompt": "Name a fruit.", "answers": ["Pear.", {"text": "Leek.", "model": "b"}]}    rank these

An item is known by its content, so that labels stay with their texts when lines of the file move.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sartor import registry
from sartor.data import reading
from sartor.data.formats._fields import BadRow, kind
from sartor.data.formats._turns import messages
from sartor.data.questions import FORMATS, Question, questions
from sartor.data.rows import Example, Message, Origin
from sartor.errors import DataError, Problem

MOST_ANSWERS = 9
"""One for each digit key."""
SHOWN = 1000
"""Bad rows that are told; the rest would say the same."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's words; the role is empty where there is only one text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One candidate, and the model that wrote it where that is known."""

    text: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One row to be judged."""

    key: str
    """Hash of what is shown; a later copy of the same content has ``-2``, ``-3`` ... behind it."""
    id: str
    file: str
    line: int
    turns: tuple[Turn, ...]
    answers: tuple[Answer, ...] = ()
    """Candidates to rank; none where a label is asked for."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The record as the user wrote it."""

    @property
    def text(self) -> str:
        """The turns as one text."""
        return "\n".join(f"{turn.role}: {turn.text}" if turn.role else turn.text for turn in self.turns)

    def json(self) -> dict[str, Any]:
        """A JSON object from which `of_json` rebuilds the item."""
        return {
            "key": self.key,
            "id": self.id,
            "file": self.file,
            "line": self.line,
            "turns": [[turn.role, turn.text] for turn in self.turns],
            "answers": [[answer.text, answer.model] for answer in self.answers],
            "record": dict(self.record),
        }

    @classmethod
    def of_json(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `json`."""
        turns = tuple(Turn(*turn) for turn in body["turns"])
        answers = tuple(Answer(*answer) for answer in body["answers"])
        return cls(body["key"], body["id"], body["file"], body["line"], turns, answers, body["record"])


@dataclass(frozen=True, slots=True)
class Shown:
    """An item before it has its key."""

    origin: Origin
    id: str | None
    turns: tuple[Turn, ...]
    answers: tuple[Answer, ...]
    record: Mapping[str, Any]


def keyed(shown: Iterable[Shown]) -> list[Item]:
    """The items with their keys, in the order given."""
    seen: Counter[str] = Counter()
    items = []
    for one in shown:
        body = [[turn.role, turn.text] for turn in one.turns], [answer.text for answer in one.answers]
        digest = hashlib.sha256(json.dumps(body, ensure_ascii=False).encode()).hexdigest()[:16]
        seen[digest] += 1
        key = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        name = one.id or str(one.origin)
        items.append(Item(key, name, one.origin.file, one.origin.line, one.turns, one.answers, one.record))
    return items


def to_label(path: Path, *, label: str) -> list[Item]:
    """The rows of a file of any known form, with or without labels. Raises DataError with every bad row."""
    return _collected(_labelled(path, label))


def to_rank(path: Path, *, label: str) -> list[Item]:
    """The rows of a file of prompts with their answers. Raises DataError with every bad row (A110)."""
    return _collected(_ranked(path, label))


def to_sample(path: Path, *, label: str) -> list[tuple[Question, tuple[Turn, ...]]]:
    """The prompts of a file, for which a model shall write the answers. Raises DataError with every bad row."""
    found, problems = [], []
    for item in questions(path, label=label):
        if isinstance(item, Question):
            found.append((item, turns_of(item.row.prompt())))
        elif item.level == "error":
            problems.append(item)
    if problems:
        raise DataError(*problems[:SHOWN])
    return found


def turns_of(said: Iterable[Message]) -> tuple[Turn, ...]:
    """What is shown of a conversation; a user's only turn stands without its role."""
    turns = tuple(Turn(message.role, _content(message)) for message in said)
    return (Turn("", turns[0].text),) if len(turns) == 1 and turns[0].role == "user" else turns


def _content(message: Message) -> str:
    calls = [json.dumps(call, ensure_ascii=False) for call in message.tool_calls]
    return "\n".join(part for part in (message.content, *calls) if part)


def _collected(found: Iterator[Shown | Problem]) -> list[Item]:
    shown, problems = [], []
    for each in found:
        if isinstance(each, Shown):
            shown.append(each)
        elif each.level == "error":
            problems.append(each)
    if problems:
        raise DataError(*problems[:SHOWN])
    return keyed(shown)


def _labelled(path: Path, label: str) -> Iterator[Shown | Problem]:
    for item in questions(path, label=label):
        if isinstance(item, Problem):
            yield item
        else:
            own = item.record.get("id")
            identity = item.row.id if own is not None else None
            yield Shown(item.row.origin, identity, _whole(item), (), item.record)


def _whole(question: Question) -> tuple[Turn, ...]:
    """All turns where the record holds an answer of its own, which is then part of what is judged; else the prompt."""
    for name in FORMATS:
        form = registry.component("format", name)
        if name == "labeled" or not form.detects(question.record):
            continue
        try:
            row = form.parse(question.record, question.row.origin)
        except BadRow:
            break
        if isinstance(row, Example):
            return turns_of(row.messages)
    return turns_of(question.row.prompt())


def _ranked(path: Path, label: str) -> Iterator[Shown | Problem]:
    count = 0
    for item in reading.records(path):
        count += 1
        if isinstance(item, Problem):
            yield item
            continue
        try:
            yield _candidates(item.value, Origin(label, item.line))
        except BadRow as bad:
            yield Problem(bad.code, bad.what, label, item.line, excerpt=item.excerpt, fix=bad.fix)
    if not count:
        raise DataError(Problem("D100", "no records", file=label, fix="give a file with at least one row"))


def _candidates(record: Mapping[str, Any], origin: Origin) -> Shown:
    asked, given = record.get("prompt"), record.get("answers")
    if isinstance(asked, list):
        turns = turns_of(messages(asked, "prompt"))
    elif isinstance(asked, str) and asked.strip():
        turns = (Turn("", asked),)
    else:
        raise BadRow("A110", f'"prompt" is {_state(asked)}', 'write {"prompt": ..., "answers": [...]}')
    if not isinstance(given, list):
        fix = 'write {"prompt": ..., "answers": [...]}, or have a model answer: --model RUN --samples 4'
        raise BadRow("A110", f'"answers" is {_state(given)} (a list needed)', fix)
    if not 2 <= len(given) <= MOST_ANSWERS:
        raise BadRow("A110", f"there are {len(given)} answers; 2 to {MOST_ANSWERS} can be ranked", "split the row")
    answers = tuple(_answer(entry, place) for place, entry in enumerate(given))
    own = record.get("id")
    identity = str(own) if isinstance(own, str | int) and not isinstance(own, bool) else None
    others = {name: value for name, value in record.items() if name not in ("answers", "prompt")}
    return Shown(origin, identity, turns, answers, others | {"prompt": asked})


def _answer(entry: Any, place: int) -> Answer:
    if isinstance(entry, str):
        return Answer(entry)
    if isinstance(entry, Mapping):
        text, model = entry.get("text"), entry.get("model")
        if isinstance(text, str) and (model is None or isinstance(model, str)):
            return Answer(text, model)
    raise BadRow("A110", f'answers[{place}] is {kind(entry)}; text or {{"text": ..., "model": ...}} needed')


def _state(value: Any) -> str:
    return "missing" if value is None else "empty" if isinstance(value, str) else kind(value)
