"""Whether a context says what an answer says: sentence by sentence, by its numbers, names and other words of content."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from sartor.metrics._words import words

_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”»)\]]*\s+(?=\S)|(?<=[。！？])|\n+")
_MARK = re.compile(r"^[ \t]*(?:[#>*•–-]+[ \t]+|\d{1,2}[.)][ \t]+)+", re.MULTILINE)
"""Of a title or an entry of a list."""
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|vs|etc|ca|bzw|approx|Inc|Ltd|Co|Mio|Mrd|env))\.$"
)
_NUMBER = re.compile(r"\d+(?:[.,'\u00a0\u202f]\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
STEM, ENDING = 5, 3
"""Letters that two forms of a word have in common at the beginning, and most letters that either has behind them;"""
SHORT_STEM, SHORT_ENDING = 4, 2
"""the same where one of them is the beginning of the other: cost, costs."""
NOUNS = 0.25
"""Share of words with a capital inside sentences from which capitals mark nouns, as in German, and not names."""
_EMPTY = """
a an the this that these those and or but if then than as at by for from in into of off on onto out over to under up with without about
is are was were be been being am do does did done have has had having will would shall should can could may might must not no nor so
i me my you your he him his she her its it we us our they them their who whom whose which what when where why how there here also
very just only more most some any all both each every other such own same too again once during before after above below between
because while until against through however therefore thus hence yes according context text passage document states mentions says
der die das den dem des ein eine einen einem einer eines und oder aber wenn als wie an am auf aus bei beim bis durch für gegen in im ins
mit nach ohne über um unter von vom vor zu zum zur ist sind war waren sein gewesen wird werden wurde wurden hat haben hatte hatten kann
können muss müssen soll sollen will wollen nicht kein keine keinen ich mich mir du dich dir er ihn ihm sie ihr ihre ihren es wir uns
unser euch man sich wer was wann wo warum welche welcher welches dass daß da dort hier auch nur noch schon sehr mehr alle jeder jede
jedes dieser diese dieses diesem diesen so weil während also laut text
le la les l un une des du de d et ou mais si que qu qui quoi dont où à au aux en dans par pour sur sous avec sans vers chez est sont
était étaient être été a ont avait avaient avoir fait peut peuvent doit doivent ne pas plus non je me moi tu te toi il elle on nous
vous ils elles se son sa ses mon ma mes ton ta tes leur leurs ce cet cette ces ça cela y aussi très tout tous toute toutes comme donc
car selon texte
"""
EMPTY = frozenset(_EMPTY.split())
"""Words that say nothing by themselves, in English, German and French."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A sentence of an answer, and what of it the context does not say."""

    sentence: str
    numbers: tuple[str, ...]
    names: tuple[str, ...]
    words: tuple[str, ...]
    """Other words; those of a supported sentence may be paraphrases."""
    share: float
    """Of its different words of content, those that the context has."""

    def supported(self, least: float) -> bool:
        """No number and no name is new, and at least this share of the words of content is there."""
        return not self.numbers and not self.names and self.share >= least

    @property
    def told(self) -> str:
        """What is missing, in words."""
        kinds = (("number", self.numbers), ("name", self.names), ("words", self.words))
        return "; ".join(f"{kind} {', '.join(found)}" for kind, found in kinds if found)


class Context:
    """A text, read for what it says."""

    def __init__(self, text: str) -> None:
        self._text = unicodedata.normalize("NFC", text)
        self._words = frozenset(words(self._text))
        self._numbers = frozenset(map(_digits, _NUMBER.findall(self._text)))
        self._begun = {word[:SHORT_STEM] for word in self._words}

    @cached_property
    def _nouns(self) -> bool:
        """Whether capitals mark nouns here."""
        inside = [word for sentence in sentences(self._text) for word in _WORD.findall(sentence)[1:]]
        return bool(inside) and sum(word[0].isupper() for word in inside) > NOUNS * len(inside)

    def check(self, answer: str) -> list[Missing]:
        """Every sentence of an answer that says something: one with a number or a word of content."""
        found = []
        for sentence in sentences(unicodedata.normalize("NFC", answer)):
            numbers = list(dict.fromkeys(_NUMBER.findall(sentence)))
            content = list(dict.fromkeys(word for word in words(sentence) if _says_something(word)))
            if numbers or content:
                found.append(self._missing(sentence, numbers, content))
        return found

    def _missing(self, sentence: str, numbers: list[str], content: list[str]) -> Missing:
        absent = [word for word in content if not self._has(word)]
        names = (
            [] if self._nouns else [name for name in _names(sentence) if any(part in absent for part in words(name))]
        )
        in_names = {part for name in names for part in words(name)}
        return Missing(
            sentence=sentence,
            numbers=tuple(number for number in numbers if _digits(number) not in self._numbers),
            names=tuple(names),
            words=tuple(word for word in absent if word not in in_names),
            share=1 - len(absent) / len(content) if content else 1.0,
        )

    def _has(self, word: str) -> bool:
        """The word, or another form of it: the same first letters and a short ending."""
        if word in self._words:
            return True
        if len(word) < SHORT_STEM or word[:SHORT_STEM] not in self._begun:
            return False
        return any(_forms(word, other) for other in self._words)


def sentences(text: str) -> list[str]:
    """The sentences of a text, marks of lists and titles left out; "Dr. Who paid 3.50." is one."""
    found: list[str] = []
    for piece in _SENTENCE.split(_MARK.sub("", text)):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] += f" {piece}"
        else:
            found.append(piece)
    return [piece.strip() for piece in found if piece.strip()]


def _names(sentence: str) -> Iterable[str]:
    """Words with a capital that do not begin the sentence."""
    found = list(_WORD.finditer(sentence))
    return dict.fromkeys(word[0] for word in found[1:] if word[0][0].isupper() and word[0].lower() not in EMPTY)


def _says_something(word: str) -> bool:
    return word not in EMPTY and not word.isdigit() and (len(word) > 1 or not word.isascii())


def _digits(number: str) -> str:
    """1,000 and 1.000 and 1000 are one number, and so are 3.50 and 3,5: groups of three are thousands, the rest is a fraction."""
    parts = re.split(r"[.,'\u00a0\u202f]", number)
    whole = parts[0]
    while len(parts) > 1 and len(parts[1]) == 3 and whole != "0":
        whole += parts.pop(1)
    fraction = "".join(parts[1:]).rstrip("0")
    return f"{whole.lstrip('0') or '0'}.{fraction}" if fraction else whole.lstrip("0") or "0"


def _forms(one: str, other: str) -> bool:
    same = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        same += 1
    more = max(len(one), len(other)) - same
    if same == min(len(one), len(other)) and same >= SHORT_STEM and more <= SHORT_ENDING:
        return True
    return same >= STEM and more <= ENDING
