"""Finds misspelt English words, and says what they should be.

    clean: [spelling]
    clean: [{spelling: {words: [Sartor, kubelet], rewrite: true}}]

A word is taken for misspelt where it is written in small letters, has at least four of them, is in no list (82,765 frequent
English words, `words`, and what three rows of the data use, and at least a tenth as many as use the right word), and one frequent
word alone is nearest to it: one edit away, or two from eight letters on (Damerau-Levenshtein, symspellpy). Left alone are
inflected forms, American and British ones, compounds, labels, names and words in capitals, numbers, code, JSON, addresses, and
texts that are mostly unknown words, such as those in other languages. Needs `pip install "sartor[spell]"`.

It suggests, because a list of words knows no context: "exlent" is nearer to "extent" than to "excellent", and a wrong word that
exists ("form" for "from") is not found. `rewrite` changes the rows.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sartor.data.cleaning import Roles
from sartor.data.dataset import Dataset
from sartor.data.literal import around_code, is_json, whole
from sartor.data.outcome import OnTexts, Outcome, Suggestion, texts, with_texts
from sartor.data.rows import Example, Row
from sartor.data.wording import fingerprint64
from sartor.errors import DataError, Problem

if TYPE_CHECKING:
    from symspellpy import SymSpell

__all__ = ["Options", "decide"]

WORD = re.compile(r"(?<![\w'’@#$./\\:%&=?-])[a-z]{2,}(?![\w'’@\\/=:(-]|\.\w)")
LEAST, LONG = 4, 8
RECURS, MEANT = 3, 10
"""A word in this many rows is meant, unless this many times as many rows use the right one."""
KNOWN_SHARE = 0.6
"""A text with a smaller share of known words is not English, or no prose."""
SURE = 10
"""How many times as frequent as the next one the nearest word must be, where several are as near."""
COMMON = 200_000
"""How often, in the texts that were counted, the right word is used at least."""
ENDINGS = ("s", "es", "ed", "ing", "er", "ers", "ly", "ness", "able")
VARIANTS = (
    *(("our", "or"), ("ll", "l"), ("re", "er"), ("is", "iz"), ("ys", "yz"), ("ogue", "og"), ("nc", "ns")),
    *(("ae", "e"), ("oe", "e")),
)
"""American and British ways to write a word."""
CONTRACTIONS = re.compile("(?:are|ca|could|did|does|do|had|has|have|is|should|was|were|wo|would)nt|theyre|youre")
LITTLE = ("i", "to", "in", "of", "my")
"""Words that are run together with the next one."""
EVERY = 500


class Options(OnTexts):
    """What is known, and whether to change rows."""

    words: tuple[str, ...] = ()
    """Further words that are right, such as names of products."""
    rewrite: bool = False
    """Change the rows instead of suggesting it."""


def decide(
    dataset: Dataset, roles: Roles, options: Options, seen: Callable[[int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Suggests, or changes rows; drops none. Raises DataError D195 where symspellpy is missing."""
    speller = _speller()
    words, counts = _used(dataset, options, seen)
    given = {word.casefold() for word in options.words}
    answers: dict[str, str | None] = {}

    def uses(word: str) -> int:
        key = np.uint64(fingerprint64(word))
        at = int(np.searchsorted(words, key))
        return int(counts[at]) if at < len(words) and words[at] == key else 0

    def right(word: str) -> str | None:
        if word not in answers:
            better = None if word in given else _nearest(speller, word)
            meant = better is not None and uses(word) >= max(RECURS, uses(better) / MEANT)
            answers[word] = None if meant else better
        return answers[word]

    for number, row in enumerate(dataset):
        told: dict[str, str] = {}
        changed = _corrected(row, options, speller, right, told)
        if changed is not row:
            what = ", ".join(f"{wrong} -> {word}" for wrong, word in sorted(told.items()))
            yield number, changed if options.rewrite else Suggestion(changed, what)
        if number % EVERY == 0:
            seen(number)


def _corrected(
    row: Row, options: Options, speller: SymSpell, right: Callable[[str], str | None], told: dict[str, str]
) -> Row:
    """The row with its misspelt words put right; `told` gets each of them."""
    label = row.label if isinstance(row, Example) else None

    def word(found: re.Match[str]) -> str:
        better = right(found[0]) if len(found[0]) >= LEAST else None
        if better is None:
            return found[0]
        told[found[0]] = better
        return better

    def text(said: str) -> str:
        if said == label or is_json(said) or not _is_english(said, speller):
            return said
        return around_code(said, lambda prose: WORD.sub(word, prose), whole)

    return with_texts(row, text, options.on)


def _is_english(text: str, speller: SymSpell) -> bool:
    words = WORD.findall(text)
    return sum(word in speller.words for word in words) >= KNOWN_SHARE * len(words)


def _nearest(speller: SymSpell, word: str) -> str | None:
    """The word that is meant, where that is clear; None for a word that is right or beyond guessing."""
    from symspellpy import Verbosity

    if word in speller.words:
        return None
    edits = 1 if len(word) < LONG else 2
    found = speller.lookup(word, Verbosity.CLOSEST, max_edit_distance=edits)
    if not found or len(found[0].term) < LEAST - 1:
        return None
    if found[0].count < COMMON or (len(found) > 1 and found[0].count < SURE * found[1].count):
        return None
    better = str(found[0].term)
    return None if _is_form(word, better, speller) else better


def _is_form(word: str, better: str, speller: SymSpell) -> bool:
    """Whether the word is an inflected form, an American or British one, or two words in one."""
    known = speller.words
    stems = (word.removesuffix(ending) + added for ending in ENDINGS for added in ("", "e") if word.endswith(ending))
    if any(len(stem) >= LEAST and stem in known for stem in stems):
        return True
    if any(word.replace(*pair) == better or better.replace(*pair) == word for pair in VARIANTS):
        return True
    if CONTRACTIONS.fullmatch(word):
        return True
    parts = ((word[:at], word[at:]) for at in range(1, len(word) - LEAST + 1))
    return any(
        (len(head) >= LEAST or head in LITTLE) and min(known.get(head, COMMON), known.get(tail, 0)) >= COMMON
        for head, tail in parts
    )


def _used(
    dataset: Dataset, options: Options, seen: Callable[[int], None]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The words of all rows as ascending fingerprints, and how many rows use each."""
    held = array("Q")
    for number, row in enumerate(dataset):
        words = {word for text in texts(row, options.on) for word in WORD.findall(text) if len(word) >= LEAST - 1}
        held.extend(map(fingerprint64, sorted(words)))
        if number % EVERY == 0:
            seen(number)
    return np.unique(np.frombuffer(held, np.uint64), return_counts=True)


@cache
def _speller() -> SymSpell:
    """symspellpy with its English words. This is the only file that imports it."""
    try:
        from importlib.resources import as_file, files

        from symspellpy import SymSpell
    except ImportError as missing:
        what = "the stage spelling needs the library symspellpy"
        raise DataError(Problem("D195", what, fix='pip install "sartor[spell]"')) from missing
    speller = SymSpell(max_dictionary_edit_distance=2, prefix_length=7)
    with as_file(files("symspellpy") / "frequency_dictionary_en_82_765.txt") as path:
        speller.load_dictionary(path, term_index=0, count_index=1)
    return speller
