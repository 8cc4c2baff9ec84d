"""What a way to augment is given and what it gives back, and the options that several of them share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, Field

from sartor.data.answers import Answers
from sartor.data.protected import Guard, Span, words_of
from sartor.data.rows import Example, Judged, Message, Preference, Prompt, Ranking, Row, Tagged, Text
from sartor.options import Options
from sartor.protocols import Models, Speaker
from sartor.recipe.schema import Section

Share = Annotated[float, Field(gt=0, le=1)]
Change = Callable[[str, list[Span], Random], str]
"""(a text, the words of it that may be changed, a stream of random numbers) -> another text."""


class Seeded(NamedTuple):
    """A training row with a random stream of its own, which no other row and no order of rows can change."""

    row: Row
    random: Random
    number: int
    """Of the row in its data set."""


Made = tuple[Seeded, Row]
"""A row that was made, and the one it was made from."""


@dataclass(frozen=True, slots=True)
class Means:
    """What is to hand where rows are made."""

    seed: int = 0
    models: Models | None = None
    """Opens models to be asked; None: nobody is asked, as in `sartor check`."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a way may use."""

    root: Path
    """Folder that paths of the recipe start from."""
    answers: Answers
    labels: tuple[str, ...]
    """The labels of the data, sorted."""
    seed: int
    done: Callable[[int], None]
    """Is told how many questions have been answered by a model."""
    refused: Callable[[str], None]
    """Is told why an answer of a model was not believed."""


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as fault:
        raise ValueError(f'"{value}" is no regular expression: {fault}') from None
    return value


class Protecting(Options):
    """Options of a way that changes texts."""

    protect: tuple[Annotated[str, AfterValidator(_pattern)], ...] = ()
    """Regular expressions; what they match is never changed. Numbers, links, addresses, placeholders, code, JSON, quoted text and names are protected anyway."""
    answer_words: bool = False
    """Also change words of the prompt that the answer repeats; an answer that copies from its prompt would be wrong then."""


class Edits(Section, Protecting):
    """Options of a way that changes single words."""

    main: ClassVar[str] = "rate"

    rate: Share = 0.1
    """Share of the words that is changed, of those that may be; at least one is."""
    copies: Annotated[int, Field(ge=1, le=20)] = 1
    """Rows made from each row."""

    @classmethod
    def widen(cls, value: Any) -> Any:
        """A bare number means `{rate: number}`."""
        return {cls.main: value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def edited(rows: Iterable[Seeded], options: Edits, change: Change) -> Iterator[Made]:
    """Every row with its prompts changed, `copies` times; nothing for a row that cannot be changed."""
    guard = Guard(options.protect)
    for seeded in rows:
        row, random = seeded.row, seeded.random
        kept = frozenset() if options.answer_words else words_of(learnt(row))
        for _ in range(options.copies):
            made = with_prompts(row, partial(_changed, guard=guard, kept=kept, random=random, change=change))
            if made is not row:
                yield seeded, made


def _changed(text: str, *, guard: Guard, kept: frozenset[str], random: Random, change: Change) -> str:
    free = guard.free(text, kept)
    return change(text, free, random) if free else text


def chosen(free: list[Span], rate: float, random: Random) -> list[Span]:
    """A random share of the words, one at least, in the order of the text."""
    count = max(1, round(rate * len(free)))
    return sorted(random.sample(free, min(count, len(free))))


def with_prompts(row: Row, change: Callable[[str], str]) -> Row:
    """The row with what its users say, or its raw text, changed; the same object where nothing is.

    Words with tags stay as they are: a changed text would need other tags.
    """
    match row:
        case Example():
            turns = _asked(row.messages, change)
            return row if turns == row.messages else replace(row, messages=turns)
        case Preference() | Judged() | Ranking():
            turns = _asked(row.prompt, change)
            return row if turns == row.prompt else replace(row, prompt=turns)
        case Prompt():
            turns = _asked(row.messages, change)
            return row if turns == row.messages else replace(row, messages=turns)
        case Text():
            text = change(row.text)
            return row if text == row.text else replace(row, text=text)
        case Tagged():
            return row
    raise TypeError(f"{type(row).__name__} has no texts")


def _asked(turns: tuple[Message, ...], change: Callable[[str], str]) -> tuple[Message, ...]:
    return tuple(replace(turn, content=turn.changed(change)) if turn.role == "user" else turn for turn in turns)


def prompts(row: Row) -> list[str]:
    """What `with_prompts` changes."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    with_prompts(row, note)
    return found


def learnt(row: Row) -> list[str]:
    """The answers of a row; none for raw text."""
    match row:
        case Example():
            return [turn.content for turn in row.messages if turn.role == "assistant"]
        case Preference():
            return [turn.content for turn in (*row.chosen, *row.rejected)]
        case Judged():
            return [turn.content for turn in row.completion]
        case Ranking():
            return [turn.content for turns in row.answers for turn in turns]
    return []


class Asking(Section):
    """Options of a way that asks a model."""

    main: ClassVar[str] = "model"

    model: Annotated[str, Field(min_length=1, examples=["sartor/nano"])]
    """A model folder, a hub id or sartor/nano; with an endpoint, the name of the model there."""
    endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Base URL of an OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1."""
    key: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    """Name of the environment variable with the endpoint's key; never the key itself."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    """How freely the model words its answers; 0 is always the likeliest."""
    max_new_tokens: Annotated[int, Field(gt=0)] = 256
    """Longest answer of the model."""

    def speaker(self) -> Speaker:
        """The model that is asked in chat."""
        return Speaker(self.model, "chat", self.endpoint, self.key)
