"""Words that name groups of people: Sartor's own lists, the user's, where a text mentions a group, and the same text of another.

attribute: gender
language: en
groups: [female, male]
swap: true
terms:
  - [she, he]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from sartor.data.protected import like
from sartor.errors import DataError, Problem

Concept = tuple[str | None, ...]
"""The same thing said of each group, in their order; None where there is no such word."""
KEYS = {"attribute", "language", "groups", "swap", "terms", "determiners", "names"}
FOLLOWS = re.compile(r"\s+([^\W\d_]+)")
NOT_NOUNS = frozenset(
    [
        "a",
        "about",
        "after",
        "again",
        "alone",
        "and",
        "are",
        "as",
        "at",
        "away",
        "back",
        "because",
        "before",
        "behind",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "down",
        "during",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "later",
        "like",
        "near",
        "next",
        "nor",
        "not",
        "now",
        "of",
        "off",
        "on",
        "or",
        "out",
        "over",
        "should",
        "since",
        "so",
        "some",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "though",
        "to",
        "today",
        "together",
        "tomorrow",
        "too",
        "under",
        "until",
        "up",
        "very",
        "was",
        "we",
        "went",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "why",
        "will",
        "with",
        "without",
        "would",
        "yesterday",
        "you",
    ]
)
"""Words before which "her" is no possessive."""


@dataclass(frozen=True)
class Terms:
    """One list."""

    attribute: str
    """gender, religion ..."""
    language: str
    """ISO 639 code."""
    groups: tuple[str, ...]
    terms: tuple[Concept, ...]
    determiners: tuple[Concept, ...] = ()
    """What stands directly before a noun; elsewhere the same word is looked up among the terms."""
    names: tuple[Concept, ...] = ()
    swap: bool = True
    """Whether a sentence stays right when one word is put for another."""
    file: str = field(default="", compare=False)

    @cached_property
    def members(self) -> Mapping[str, int]:
        """Each word and its group; what two groups share names neither."""
        found: dict[str, set[int]] = {}
        for concept in (*self.terms, *self.determiners, *self.names):
            for group, word in enumerate(concept):
                if word is not None:
                    found.setdefault(word, set()).add(group)
        return {word: next(iter(groups)) for word, groups in found.items() if len(groups) == 1}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """All words, the longest first; those written with a capital only with one."""
        words = sorted(self.members, key=lambda word: (-len(word), word))
        each = [re.escape(word) if word != word.lower() else f"(?i:{re.escape(word)})" for word in words]
        return re.compile(rf"(?<![\w-])(?:{'|'.join(each)})(?![\w-])")

    def found(self, text: str) -> Iterator[tuple[re.Match[str], str, int]]:
        """(place, the word as it is listed, number of its group) of every mention."""
        for match in self._pattern.finditer(text):
            word = match[0] if match[0] in self.members else match[0].lower()
            if word in self.members:
                yield match, word, self.members[word]

    def mentions(self, text: str) -> frozenset[int]:
        """The groups that a text mentions."""
        return frozenset(group for _, _, group in self.found(text))

    def swapped(self, text: str, one: int, other: int) -> str | None:
        """The text with two groups in each other's place; None where a word has no counterpart."""
        pieces, at = [], 0
        for match, word, group in self.found(text):
            if group not in (one, other):
                continue
            counterpart = self._counterpart(word, group, other if group == one else one, _before_noun(match))
            if counterpart is None:
                return None
            pieces += [text[at : match.start()], _as_written(match[0], word, counterpart)]
            at = match.end()
        return "".join([*pieces, text[at:]])

    def _counterpart(self, word: str, group: int, to: int, before_noun: bool) -> str | None:
        lists = (self.determiners if before_noun else (), self.terms, self.determiners, self.names)
        for concepts in lists:
            for concept in concepts:
                if concept[group] == word and concept[to] is not None:
                    return concept[to]
        return None


def _before_noun(match: re.Match[str]) -> bool:
    follows = FOLLOWS.match(match.string, match.end())
    return follows is not None and follows[1].lower() not in NOT_NOUNS


def _as_written(written: str, listed: str, other: str) -> str:
    """A small listed word takes the case of the one in the text; one with a capital of its own keeps its own."""
    if listed != listed.lower() or other != other.lower():
        return other.upper() if len(written) > 2 and written.isupper() and listed != written else other
    return like(written, other)


def own(languages: Sequence[str] = ()) -> list[Terms]:
    """The lists of Sartor, or those of some languages."""
    folder = resources.files("sartor.embedded").joinpath("terms")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    lists = [_read(yaml.safe_load(file.read_text(encoding="utf-8")), file.name) for file in files]
    return [terms for terms in lists if not languages or terms.language in languages]


def read(path: Path) -> Terms:
    """A list of the user. Raises DataError D198 where it is not of the form above."""
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise _fault(str(path), f"cannot be read as a list of terms ({fault})") from None
    return _read(body, str(path))


def known(files: Iterable[str], root: Path) -> list[Terms]:
    """Our lists and those of the user; one of the user replaces ours of the same attribute and language."""
    given = [read(root / Path(file).expanduser()) for file in files]
    replaced = {(terms.attribute, terms.language) for terms in given}
    return [*given, *(terms for terms in own() if (terms.attribute, terms.language) not in replaced)]


def _read(body: Any, file: str) -> Terms:
    if not isinstance(body, dict) or not {"attribute", "language", "groups", "terms"} <= body.keys() <= KEYS:
        keys = ", ".join(sorted(body)) if isinstance(body, dict) else type(body).__name__
        raise _fault(file, f"a list of terms has attribute, language, groups and terms; this has {keys}")
    groups = tuple(body["groups"]) if isinstance(body["groups"], list) else ()
    if len(groups) < 2 or not all(isinstance(group, str) for group in groups):
        raise _fault(file, "groups must be a list of two names or more")
    columns: dict[str, tuple[Concept, ...]] = {}
    for key in ("terms", "determiners", "names"):
        rows = body.get(key) or []
        for row in rows if isinstance(rows, list) else [rows]:
            right = isinstance(row, list) and len(row) == len(groups)
            if not right or not all(word is None or (isinstance(word, str) and word) for word in row):
                what = f"each line of {key} has one word for each of {', '.join(groups)}, or null; this is {row!r}"
                raise _fault(file, what)
        columns[key] = tuple(tuple(row) for row in rows)
    swap = body.get("swap", True)
    if not isinstance(swap, bool):
        raise _fault(file, "swap is true or false")
    return Terms(str(body["attribute"]), str(body["language"]), groups, **columns, swap=swap, file=file)


def _fault(file: str, what: str) -> DataError:
    fix = "attribute: gender, language: en, groups: [female, male], terms: [[she, he], [woman, man]]"
    return DataError(Problem("D198", what, file=file, fix=fix))
