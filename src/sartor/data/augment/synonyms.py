"""Puts other words of the same meaning into prompts.

    augment: [synonyms]
    augment: [{synonyms: {rate: 0.1, copies: 1}}]
    augment: [{synonyms: {wordnet: dict/}}]

Source: synonym replacement of Wei and Zou 2019, "EDA", section 2, with another choice of words: Sartor's own table
(English, a few hundred words, forms of verbs and nouns included), or WordNet's files. A word is replaced only by one in the
same form, and a and an follow; a word that the table knows in two meanings is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import Field

from sartor.data.making import Bench, Edits, Made, Seeded, chosen, edited
from sartor.data.protected import Span, like, replaced
from sartor.data.thesaurus import Thesaurus, own, wordnet, wordnet_files

__all__ = ["Options", "files", "make"]

VOWELS = "aeiou"


class Options(Edits):
    """How much is changed, and by which words."""

    wordnet: str | None = None
    """Folder with WordNet's files (data.noun and so on), or a JSONL file of {"lemma", "pos", "synonyms"}; our own table without."""
    meanings: Annotated[int, Field(ge=1)] = 1
    """A word of WordNet with more meanings than this is left alone."""


def make(rows: Iterable[Seeded], options: Options, bench: Bench) -> Iterator[Made]:
    """Rows with other words in their prompts."""
    known = own() if options.wordnet is None else wordnet(bench.root / Path(options.wordnet), options.meanings)

    def change(text: str, free: list[Span], random: Random) -> str:
        able = [span for span in free if _fitting(text, span, known)]
        if not able:
            return text
        count = max(1, round(options.rate * len(free)))
        picked = chosen(able, min(1.0, count / len(able)), random)
        return replaced(text, {span: random.choice(_fitting(text, span, known)) for span in picked})

    return edited(rows, options, change)


def files(options: Options, root: Path) -> list[Path]:
    """What is read."""
    return [] if options.wordnet is None else wordnet_files(root / Path(options.wordnet))


def _fitting(text: str, span: Span, known: Thesaurus) -> Sequence[str]:
    """The words that can stand here, in the case of the one that does."""
    word = text[span[0] : span[1]]
    before = text[: span[0]].rsplit(None, 1)[-1:] if text[: span[0]].endswith(" ") else []
    article = bool(before) and before[0].casefold() in ("a", "an")
    found = known.get(word.casefold(), ())
    return [
        like(word, other)
        for other in found
        if not article or (other[0].casefold() in VOWELS) == (word[0].casefold() in VOWELS)
    ]
