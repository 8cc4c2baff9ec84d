"""Takes personal data and keys out of rows: a placeholder stands in place of each value, or the row goes.

    clean: [redact]
    clean: [{redact: [email, phone]}]
    clean: [{redact: {what: [email, iban], key_file: keys.json, regions: [CH, DE]}}]

    Write to bob@example.com   ->   Write to [EMAIL_3f9a2c]

The same value has the same placeholder everywhere, so that the model still sees who is who. Looked at are all texts, tool
calls and the other columns of a row. A number counts only where its check digit, its country or its range holds: cards
(Luhn and the known brands), IBAN, phone numbers that are given out, US, Swiss, French, Spanish and Italian social security
numbers, public IP addresses. Keys are those of the check S301.

What it does not find: names, postal addresses, dates of birth; numbers written in words or with a slip; phone numbers without a
country code that are not written in the groups of one of `regions`. Of other numbers of 13 to 19 digits that begin like a card,
one in ten passes as one. A value written in two ways has one placeholder, and comes back in one of them. Without `key_file` the placeholder has no secret: who guesses a value can test the guess. With it, the file
holds every value (mode 0600): `sartor data unredact` needs it; keep it away from the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from sartor.data.cleaning import Roles
from sartor.data.dataset import Dataset
from sartor.data.masks import OPEN_SECRET, KeyFile, keys_or_new, masked, named, placeholder, width_for, write_keys
from sartor.data.outcome import Drop, Outcome, Short, with_texts
from sartor.data.personal import WORDS, Found, Kind, finder
from sartor.data.rows import Example, Judged, Message, Preference, Prompt, Ranking, Row
from sartor.recipe.schema import Rule

__all__ = ["Options", "decide"]

EVERY = 500
Find = Callable[[str], list[Found]]


class Options(Short):
    """What is looked for, and what becomes of it."""

    main: ClassVar[str] = "what"

    what: Annotated[tuple[Kind, ...], Field(min_length=1, examples=["[email, phone]"])] = (
        "email", "phone", "iban", "card", "ip", "ssn", "key",
    )  # fmt: skip
    """Any of email, phone, iban, card, ip, url, ssn, key; all but url by default."""
    action: Literal["mask", "drop"] = "mask"
    """mask: put a placeholder in its place; drop: leave the row out."""
    regions: tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...] = ("US",)
    """Countries whose phone numbers are found without their country code."""
    key_file: str | None = None
    """File that keeps each value with its placeholder and makes placeholders that nobody can guess; made where it is missing."""

    @model_validator(mode="after")
    def _acts(self) -> Self:
        if self.key_file is not None and self.action == "drop":
            raise Rule("key_file keeps the values of placeholders, and action: drop makes none", "key_file")
        return self


def decide(
    dataset: Dataset, roles: Roles, options: Options, seen: Callable[[int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Changes rows, or drops them. Raises DataError S330 or S331 for the key file."""
    find = finder(options.what, options.regions)
    hits: list[int] = []
    values: dict[int, tuple[str, str]] = {}
    keys = keys_or_new(Path(options.key_file)) if options.key_file else KeyFile(OPEN_SECRET, {})
    for number, row in enumerate(dataset):
        if number % EVERY == 0:
            seen(number)
        kinds = []
        for text in _texts(row):
            for found in find(text):
                kinds.append(found.kind)
                name, written = named(found, keys.secret), (found.kind, text[found.begin : found.end])
                values[name] = min(values.get(name, written), written)
        if not kinds:
            continue
        hits.append(number)
        if options.action == "drop":
            yield number, Drop(f"holds {WORDS[min(kinds, key=options.what.index)]}")
    if options.action == "drop" or not hits:
        return
    width = width_for(np.fromiter(values, np.uint64, len(values)))

    def mask(text: str) -> str:
        return masked(text, find(text), keys.secret, width)

    for number in hits:
        yield number, _everywhere(dataset[number], mask)
    if options.key_file:
        told = {placeholder(kind, name, width): value for name, (kind, value) in values.items()}
        write_keys(Path(options.key_file), KeyFile(keys.secret, {**keys.values, **told}))


def _texts(row: Row) -> list[str]:
    """Every text of a row, those in tool calls and other columns included."""
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    _everywhere(row, note)
    return texts


def _everywhere(row: Row, change: Callable[[str], str]) -> Row:
    """The row with all its texts changed, those in tool calls and other columns included; the same one where none is."""
    changed = with_texts(row, change)
    columns = _inside(row.columns, change)
    if columns != row.columns:
        changed = replace(changed, columns=columns)
    turns: Mapping[str, tuple[Message, ...]] = {}
    match changed:
        case Example() | Prompt():
            turns = {"messages": changed.messages}
        case Preference():
            turns = {"prompt": changed.prompt, "chosen": changed.chosen, "rejected": changed.rejected}
        case Judged():
            turns = {"prompt": changed.prompt, "completion": changed.completion}
        case Ranking():
            turns = {"prompt": changed.prompt}
            answers = tuple([tuple([_with_calls(turn, change) for turn in given]) for given in changed.answers])
            changed = changed if answers == changed.answers else replace(changed, answers=answers)
    called = {name: tuple([_with_calls(turn, change) for turn in given]) for name, given in turns.items()}
    return changed if called == turns else replace(changed, **called)  # type: ignore[arg-type]


def _with_calls(turn: Message, change: Callable[[str], str]) -> Message:
    return replace(turn, tool_calls=tuple(_inside(list(turn.tool_calls), change))) if turn.tool_calls else turn


def _inside(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed; names of keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _inside(entry, change) for name, entry in value.items()}
    return [_inside(entry, change) for entry in value] if isinstance(value, list | tuple) else value
