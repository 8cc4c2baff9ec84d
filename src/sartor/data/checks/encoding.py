"""Characters that make a text read differently from how it looks.

train.jsonl:5: warning S310: bidi override U+202E.
train.jsonl:9: warning S311: mixed scripts in one word ("pаypal": Cyrillic а).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from sartor.data.checks._sightings import Sightings
from sartor.data.dataset import Dataset
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
LOOKALIKES = "аеорсухіјѕԁһӏвнкмтАВЕКМНОРСТУХІЈЅοαινυρχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"
"""Cyrillic and Greek letters that look like Latin ones."""
MIXED = re.compile(f"[A-Za-z][{LOOKALIKES}]|[{LOOKALIKES}][A-Za-z]")
LATIN = re.compile("[A-Za-z]{2}")
WORD_END = re.compile(r"\W|_")
_CHECKED_AROUND = 40


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """S310 and S311, one for each file."""
    bidi, mixed = Sightings(dataset), Sightings(dataset)
    shown: dict[str, str] = {}
    for at, raw in _beyond_ascii(dataset):
        text = raw.decode()
        if found := BIDI.search(text):
            bidi.add(at, f"bidi {_bidi_name(found[0])} U+{ord(found[0]):04X}")
        if word := _mixed_word(text):
            file = dataset.origin(at).file
            letter = next(letter for letter in word if letter in LOOKALIKES)
            script = unicodedata.name(letter).split()[0].title()
            shown.setdefault(file, f'mixed scripts in one word ("{word}": {script} {letter})')
            mixed.add(at, shown[file])
    yield from bidi.problems("S310", "warning", "remove it, unless the text needs it to be read in the right direction")
    yield from mixed.problems("S311", "warning", "write the word in one script")


def _beyond_ascii(dataset: Dataset) -> Iterator[tuple[int, bytes]]:
    """The rows that hold more than ASCII."""
    for block in dataset.blocks():
        if not block.data.isascii():
            yield from ((at, line) for at, line in enumerate(block.lines(), block.first) if not line.isascii())


def _bidi_name(character: str) -> str:
    name = unicodedata.name(character).lower()
    return "override" if "override" in name else "isolate" if "isolate" in name else "embedding"


def _mixed_word(text: str) -> str | None:
    """The first word with a look-alike between at least two Latin letters, such as a name made to deceive."""
    for found in MIXED.finditer(text):
        begin, end = found.span()
        left = WORD_END.split(text[max(0, begin - _CHECKED_AROUND) : begin])[-1]
        right = WORD_END.split(text[end : end + _CHECKED_AROUND])[0]
        word = left + found[0] + right
        if len(LATIN.findall(word)) and sum(letter in LOOKALIKES for letter in word) * 2 <= len(word):
            return word
    return None
