"""Reads records that are to be answered: of any known form, with or without an answer.

    {"prompt": "Where is my order?"}    {"question": "What is a pear?"}    {"text": "My card has not arrived yet."}
    {"messages": [{"role": "user", "content": "What is a pear?"}]}         a line of a text file
    {"sentence1": "A plane.", "sentence2": "An aircraft."}    {"tokens": ["Ada", "wrote", "it"]}, for a model that tags

A record without an answer is given a stand-in, read by the format it then has, and asked without it; so everything that a
format knows about its fields holds here as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from sartor import registry
from sartor.data import images, reading
from sartor.data.formats._fields import BadRow, nearest
from sartor.data.opening import extension
from sartor.data.rows import Example, Origin, Scored, Tagged
from sartor.errors import DataError, Problem

Asked = TypeVar("Asked")
STAND_IN = "."
ANSWERS = {
    "prompt": "completion",
    "question": "answer",
    "instruction": "output",
    "text": "label",
    "sentence1": "score",
    **dict.fromkeys(("premise", "text1", "question1"), "label"),
}
"""Column that asks -> column that answers."""
FORMATS = (
    "messages",
    "sharegpt",
    "human_assistant",
    "alpaca",
    "dolly",
    "question_answer",
    "prompt_completion",
    "labeled",
    "labeled_pair",
    "scored",
)
TURNS = {"messages": {"role": "assistant", "content": STAND_IN}, "conversations": {"from": "gpt", "value": STAND_IN}}
_ANSWERERS = ("gpt", "assistant", "chatgpt", "bot", "model")
_MARKED = re.compile(r"###[ \t]*(Human|Assistant|System)[ \t]*:")
ASKED = (*ANSWERS, *TURNS)


@dataclass(frozen=True, slots=True)
class Question:
    """A record and what it asks: the prompt of `row`; its last answer may be a stand-in."""

    record: Mapping[str, Any]
    row: Example


def questions(path: Path, *, label: str) -> Iterator[Question | Problem]:
    """Every record of a file as a question, or as what is wrong with it. Raises DataError for faults of the whole file.

    A text file has one question per line. `label` is the file's name in messages.
    """
    return _each(path, label, lambda record, origin: Question(record, _row(record, origin, path.parent)))


def _each(path: Path, label: str, read: Callable[[Mapping[str, Any], Origin], Asked]) -> Iterator[Asked | Problem]:
    lines = extension(path) in registry.component("source", "text").EXTENSIONS
    count = 0
    for item in reading.records(path, format="lines" if lines else "auto"):
        count += 1
        if isinstance(item, Problem):
            yield _at(item, label)
            continue
        try:
            yield read(item.value, Origin(label, item.line))
        except BadRow as bad:
            yield Problem(bad.code, bad.what, label, item.line, excerpt=item.excerpt, fix=bad.fix)
    if not count:
        raise DataError(Problem("D100", "no records", file=label, fix="give a file with at least one row"))


@dataclass(frozen=True, slots=True)
class Words:
    """A record with words that are to be tagged; the tags of `row` are stand-ins."""

    record: Mapping[str, Any]
    row: Tagged


def words(path: Path, *, label: str) -> Iterator[Words | Problem]:
    """Every record of a file as words to be tagged: its `tokens`, or its `text` cut at spaces. As `questions` otherwise."""
    return _each(path, label, lambda record, origin: Words(record, _words(record, origin)))


def _words(record: Mapping[str, Any], origin: Origin) -> Tagged:
    found = record.get("tokens", record.get("text"))
    tokens = found.split() if isinstance(found, str) else found
    if not isinstance(tokens, list):
        raise BadRow("D112", "no column with words", "name it tokens (a list of words), or text")
    row = registry.component("format", "tagged").parse({"tokens": tokens, "tags": [STAND_IN] * len(tokens)}, origin)
    assert isinstance(row, Tagged)
    return replace(row, id=_named(record, origin))


def _named(record: Mapping[str, Any], origin: Origin) -> str:
    identity = record.get("id")
    return str(identity) if isinstance(identity, str | int) and not isinstance(identity, bool) else str(origin)


def _row(record: Mapping[str, Any], origin: Origin, folder: Path) -> Example:
    answered = _answered(record)
    form = next((name for name in FORMATS if registry.component("format", name).detects(answered)), None)
    if form is None:
        near = next((f'; is it "{column}"?' for name in ASKED if (column := nearest(name, record))), "")
        raise BadRow("D112", f"no column that asks something{near}", f"name it {', '.join(ASKED[:-1])} or {ASKED[-1]}")
    row = images.resolved(registry.component("format", form).parse(answered, origin), folder)
    assert isinstance(row, Example)
    named = _named(record, origin)
    if isinstance(row, Scored):
        return replace(row, id=named, columns={})
    label = row.label if row.paired else None
    return Example(origin=origin, id=named, messages=row.messages, tools=row.tools, label=label)


def _answered(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record with a stand-in for its answer."""
    for column, turn in TURNS.items():
        turns = record.get(column)
        if isinstance(turns, list) and turns:
            return record if _ends_with_answer(turns[-1]) else {**record, column: [*turns, turn]}
    asks = next((column for column in ANSWERS if record.get(column) is not None), None)
    if asks is None:
        return record
    if asks == "text" and isinstance(record["text"], str) and _MARKED.match(record["text"].lstrip()):
        answered = _MARKED.findall(record["text"])[-1] == "Assistant"
        return {"text": record["text"] + ("" if answered else f"\n### Assistant: {STAND_IN}")}
    passage = asks == "instruction" and not {"context", "response"}.isdisjoint(record)
    verdict = "label" if asks == "prompt" else None
    asked = {name: value for name, value in record.items() if name != verdict}
    if asks == "sentence1":
        return {name: value for name, value in asked.items() if name not in ("label", "labels")} | {"score": 0}
    return {**asked, "response" if passage else ANSWERS[asks]: STAND_IN}


def _ends_with_answer(turn: Any) -> bool:
    return isinstance(turn, Mapping) and (turn.get("role") == "assistant" or turn.get("from") in _ANSWERERS)


def _at(problem: Problem, label: str) -> Problem:
    fix = problem.fix and problem.fix.replace("{file}", label)
    return replace(problem, file=problem.file or label, fix=fix)
