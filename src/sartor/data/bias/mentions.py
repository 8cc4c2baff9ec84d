"""Which groups the words of a text name, for many lists and in one pass over its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sartor.data.terms import Terms

TOKEN = re.compile(r"\w+(?:['’-]\w+)*")
OWNER = re.compile(r"['’]s?$")
"""What makes a possessive: Mary's."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """What people differ in, and the groups that are told apart."""

    name: str
    groups: tuple[str, ...]


Entry = tuple[tuple[str, ...], bool, int, int]
"""Words (in lower case unless the next says so), whether case counts, number of the list, group."""


class Finder:
    """Finds mentions. Lists of one attribute with the same groups are one, whatever their language."""

    def __init__(self, lists: Sequence[Terms]) -> None:
        self.attributes = list(dict.fromkeys(Attribute(terms.attribute, terms.groups) for terms in lists))
        self._number = [self.attributes.index(Attribute(terms.attribute, terms.groups)) for terms in lists]
        self._starts: dict[str, list[Entry]] = {}
        for number, terms in enumerate(lists):
            for word, group in terms.members.items():
                cased = word != word.lower()
                tokens = tuple(TOKEN.findall(word))
                self._starts.setdefault(tokens[0].lower(), []).append((tokens, cased, number, group))
        for entries in self._starts.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def mentions(self, text: str) -> list[frozenset[int]]:
        """For each of `attributes`, the groups that are named."""
        plain = text.isascii() and "'" not in text
        if plain and self._starts.keys().isdisjoint(TOKEN.findall(text.lower())):
            return [frozenset()] * len(self.attributes)
        found: list[set[int]] = [set() for _ in self.attributes]
        words = TOKEN.findall(text)
        busy = [0] * len(self._number)
        for place, word in enumerate(words):
            entries = self._starts.get(word.lower(), [])
            if not entries and ("'" in word or "’" in word):
                entries = self._starts.get(OWNER.sub("", word).lower(), [])
            for tokens, cased, number, group in entries:
                if place >= busy[number] and _same(words[place : place + len(tokens)], tokens, cased):
                    found[self._number[number]].add(group)
                    busy[number] = place + len(tokens)
        return [frozenset(groups) for groups in found]


def _same(words: Sequence[str], tokens: Sequence[str], cased: bool) -> bool:
    if len(words) != len(tokens):
        return False
    for word, token in zip(words, tokens, strict=True):
        given, wanted = (word, token) if cased else (word.lower(), token)
        if given != wanted and OWNER.sub("", given) != wanted:
            return False
    return True
