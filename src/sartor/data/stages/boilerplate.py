"""Takes out lines that recur in many rows and belong to none: cookie notices, signatures, headers and footers of pages.

    clean: [boilerplate]
    clean: [{boilerplate: {share: 0.01, lines: ["Sent by the ticket system"]}}]

A line counts where it has at least three words and stands among other lines of its text. It goes where more than `share` of the
rows, and at least five, have it (regardless of case and spacing), or where it is one of `lines` or of a small list of our own, in
English. System turns, code and texts that are JSON are left alone, and so is a line of a prompt that more than half of the rows
have: that is the wording in which the rows ask.

The words of a line decide, not its place: a sentence that many rows share for a good reason goes as well; see changed.jsonl.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sartor.data.cleaning import Roles
from sartor.data.dataset import Dataset
from sartor.data.groups import is_among
from sartor.data.literal import around_code, is_json, whole
from sartor.data.outcome import On, Outcome, Short, texts, with_texts
from sartor.data.rows import Example, Judged, Message, Preference, Prompt, Ranking, Row, Text
from sartor.data.similarity import WORD
from sartor.data.wording import fingerprint64, normal

__all__ = ["Options", "decide"]

WORDS = 3
LEAST = 5
FRAME = 0.5
EVERY = 1000
KNOWN = re.compile(
    r"""
      (?:we|this\ (?:web)?site)\ uses?\ cookies.*
    | .*\baccept\ (?:all\ )?cookies\b.*
    | (?:accept|reject|manage)\ (?:all\ )?(?:cookies|preferences)
    | (?:copyright\ |\(c\)\ |©\ )+\s*\d{4}.*
    | .*\ball\ rights\ reserved\b.{0,40}
    | sent\ from\ my\ (?:iphone|ipad|android|samsung|mobile|phone|blackberry).*
    | get\ outlook\ for\ (?:ios|android)
    | (?:click\ here\ to\ )?unsubscribe(?:\ from\ this\ (?:list|newsletter)|\ here)?\W*
    | (?:sign\ up\ (?:for|to)|subscribe\ to)\ our\ newsletter.*
    | skip\ to\ (?:main\ )?content
    | (?:please\ )?(?:enable|turn\ on)\ javascript.*
    | share\ (?:this\ )?(?:on|via)\ (?:facebook|twitter|x|linkedin|whatsapp).*
    | (?:terms\ of\ (?:use|service)\W+privacy\ policy|privacy\ policy\W+terms\ of\ (?:use|service)).{0,40}
    | (?:this\ (?:e-?mail|message)\b.*\b(?:confidential|intended\ (?:only|solely))\b.*)
    | please\ consider\ the\ environment\ before\ printing.*
    """,
    re.VERBOSE,
)
"""Whole lines, in lower case."""


class Options(Short):
    """How often a line may recur."""

    main: ClassVar[str] = "share"

    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """A line that more than this share of the rows have goes."""
    lines: tuple[str, ...] = ()
    """Further lines that go, wherever they stand."""
    known: bool = True
    """Also take out what is on our own list."""
    on: On = "prompt"
    """Which texts: all, those that are asked (prompt), or those that are learnt (answer); raw text is always looked at."""


def decide(
    dataset: Dataset, roles: Roles, options: Options, seen: Callable[[int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Changes rows; drops none, but one of which nothing is left to learn goes."""
    recurring = _recurring(dataset, options, seen)
    given = {normal(line) for line in options.lines}

    def goes(line: str) -> bool:
        tidy = normal(line)
        if tidy in given or (options.known and KNOWN.fullmatch(tidy)):
            return True
        if len(recurring) == 0 or len(WORD.findall(tidy)) < WORDS:
            return False
        return bool(is_among(recurring, np.array([fingerprint64(tidy)], np.uint64))[0])

    for number, row in enumerate(dataset):
        changed = _without(row, goes, options.on)
        if changed is not row:
            yield number, changed
        if number % EVERY == 0:
            seen(number)


def _recurring(dataset: Dataset, options: Options, seen: Callable[[int], None]) -> NDArray[np.uint64]:
    """The lines that too many rows have, as ascending fingerprints."""
    asked, learnt = array("Q"), array("Q")
    for number, row in enumerate(dataset):
        _note(row, "prompt", options.on, asked if not isinstance(row, Text) else learnt)
        if not isinstance(row, Text):
            _note(row, "answer", options.on, learnt)
        if number % EVERY == 0:
            seen(number)
    found = []
    for held, most in ((asked, FRAME), (learnt, 1.0)):
        lines, counts = np.unique(np.frombuffer(held, np.uint64), return_counts=True)
        many = (counts > options.share * len(dataset)) & (counts >= LEAST) & (counts <= most * len(dataset))
        found.append(lines[many])
    return np.unique(np.concatenate(found))


def _note(row: Row, side: On, on: On, held: array[int]) -> None:
    """Note each line of one side of a row once."""
    if on not in ("all", side) and not isinstance(row, Text):
        return
    systems = _systems(row)
    lines = set()
    for text in texts(row, side):
        if text not in systems and "\n" in text.strip() and not is_json(text):
            tidy = (normal(line) for line in around_code(text, str, lambda found: "").split("\n"))
            lines |= {line for line in tidy if len(WORD.findall(line)) >= WORDS}
    held.extend(sorted(map(fingerprint64, lines)))


def _without(row: Row, goes: Callable[[str], bool], on: On) -> Row:
    systems = _systems(row)

    def tidy(text: str) -> str:
        if "\n" not in text.strip() or text in systems or is_json(text):
            return text
        return around_code(text, lambda words: _lines(words, goes), whole)

    return with_texts(row, tidy, on)


def _lines(text: str, goes: Callable[[str], bool]) -> str:
    lines = text.split("\n")
    kept = [line for line in lines if not goes(line)]
    if len(kept) == len(lines):
        return text
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip("\n")


def _systems(row: Row) -> set[str]:
    turns: tuple[Message, ...] = ()
    match row:
        case Example() | Prompt():
            turns = row.messages
        case Preference() | Judged() | Ranking():
            turns = row.prompt
    return {turn.content for turn in turns if turn.role == "system"}
