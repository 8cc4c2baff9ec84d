"""What a cleaning stage may do to a row, and how texts of a row are changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_origin

from sartor.data.rows import (
    Example,
    Judged,
    Labelled,
    Message,
    Origin,
    Preference,
    Prompt,
    Ranking,
    Row,
    Scored,
    Tagged,
    Text,
    listed,
)
from sartor.options import Options
from sartor.recipe.schema import Section


@dataclass(frozen=True, slots=True)
class Drop:
    """The row is left out."""

    reason: str
    """Why, in words that many rows can share; what is special to this row goes to `because_of`."""
    because_of: Origin | None = None
    """The other row that this one is a copy of, or contradicts."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The row stays as it is; a person may want it as `row` is."""

    row: Row
    what: str


@dataclass(frozen=True, slots=True)
class Remark:
    """The row stays as it is; what could not be told about it is counted."""

    what: str


Outcome = Row | Drop | Suggestion | Remark
"""The row as it goes on (the same object where nothing has changed), or one of the others."""
Cleaner = Callable[[Row], Outcome]
On = Literal["all", "prompt", "answer"]


class Short(Section):
    """Options that may be written as the value of the main one: `{duplicates: 0.9}`."""

    @classmethod
    def widen(cls, value: Any) -> Any:
        """What is no mapping is the value of the main option; one text is a list of one, where a list is expected."""
        if isinstance(value, dict | Options) or value is None:
            return value
        several = get_origin(cls.model_fields[cls.main].annotation) is tuple
        return {cls.main: [value] if several and isinstance(value, str) else value}


class OnTexts(Options):
    """Options of a stage that changes texts."""

    on: On = "all"
    """Which texts: all, those that are asked (prompt), or those that are learnt (answer)."""


def with_texts(row: Row, change: Callable[[str], str], on: On = "all") -> Row:
    """The row with every text changed; the same object where no text is. The label of a labelled row follows its answer.

    Numbers and tags stay; a word with a tag stays where what became of it is no single word.
    """
    match row:
        case Scored():
            asked, said = row.messages[:-1], row.messages[-1]
            turns = asked if on == "answer" else _turns(asked, change, on)
            return row if turns is asked else replace(row, messages=(*turns, said))
        case Labelled():
            return _labelled(row, change, on)
        case Tagged():
            tokens = row.tokens if on == "answer" else tuple([_word(token, change) for token in row.tokens])
            return row if tokens == row.tokens else replace(row, tokens=tokens)
        case Example():
            turns = _turns(row.messages, change, on)
            if turns is row.messages:
                return row
            changed = replace(row, messages=turns)
            if row.label is not None and row.answer().content == row.label:
                label = changed.answer().content
                stratum = label if row.stratum == row.label else row.stratum
                return replace(changed, label=label, stratum=stratum)
            return changed
        case Text():
            text = change(row.text)
            return row if text == row.text else replace(row, text=text)
        case Preference():
            parts = (row.prompt, row.chosen, row.rejected)
            prompt, chosen, rejected = (_turns(part, change, on) for part in parts)
            same = prompt is row.prompt and chosen is row.chosen and rejected is row.rejected
            return row if same else replace(row, prompt=prompt, chosen=chosen, rejected=rejected)
        case Judged():
            prompt, completion = (_turns(part, change, on) for part in (row.prompt, row.completion))
            same = prompt is row.prompt and completion is row.completion
            return row if same else replace(row, prompt=prompt, completion=completion)
        case Prompt():
            turns = _turns(row.messages, change, on)
            return row if turns is row.messages else replace(row, messages=turns)
        case Ranking():
            prompt, *answers = (_turns(part, change, on) for part in (row.prompt, *row.answers))
            same = prompt is row.prompt and all(new is old for new, old in zip(answers, row.answers, strict=True))
            return row if same else replace(row, prompt=prompt, answers=tuple(answers))
    raise TypeError(f"{type(row).__name__} has no texts")


def _labelled(row: Labelled, change: Callable[[str], str], on: On) -> Row:
    """Labels are changed one by one, and the answer lists them."""
    asked = row.messages[:-1]
    turns = asked if on == "answer" else _turns(asked, change, on)
    labels = row.labels if on == "prompt" else tuple(sorted({change(label) for label in row.labels}))
    if turns is asked and labels == row.labels:
        return row
    said = row.messages[-1] if labels == row.labels else replace(row.messages[-1], content=listed(labels))
    stratum = listed(labels) if row.stratum == listed(row.labels) else row.stratum
    return replace(row, messages=(*turns, said), labels=labels, stratum=stratum)


def _word(token: str, change: Callable[[str], str]) -> str:
    new = change(token)
    return new if len(new.split()) == 1 else token


def with_label(row: Example, label: str) -> Example:
    """A labelled row under another label, which is its answer and, where its label was, its stratum."""
    at = max(i for i, turn in enumerate(row.messages) if turn.role == "assistant")
    turns = (*row.messages[:at], replace(row.messages[at], content=label), *row.messages[at + 1 :])
    return replace(row, messages=turns, label=label, stratum=label if row.stratum == row.label else row.stratum)


def texts(row: Row, on: On = "all") -> list[str]:
    """Every text of a row, in order."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    with_texts(row, note, on)
    return found


def _turns(turns: tuple[Message, ...], change: Callable[[str], str], on: On) -> tuple[Message, ...]:
    """The turns with their texts changed; the same tuple where none is."""
    changed = tuple([turn if not _meant(turn, on) else _turn(turn, change) for turn in turns])
    return turns if all(new is old for new, old in zip(changed, turns, strict=True)) else changed


def _meant(turn: Message, on: On) -> bool:
    return on == "all" or (turn.role == "assistant") == (on == "answer")


def _turn(turn: Message, change: Callable[[str], str]) -> Message:
    content = turn.changed(change)
    reasoning = turn.reasoning if turn.reasoning is None else change(turn.reasoning)
    if content == turn.content and reasoning == turn.reasoning:
        return turn
    return replace(turn, content=content, reasoning=reasoning)
