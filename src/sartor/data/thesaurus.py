"""Words of the same meaning and form: Sartor's own English table, and WordNet's files read as they are."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from sartor.errors import DataError, Problem

Thesaurus = Mapping[str, Sequence[str]]
"""A word in lower case -> words that can take its place."""
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
"""Files of WordNet and the letter of each part of speech."""
FORMS = {"n": 2, "v": 5}
"""Forms of a noun: one, many; of a verb: base, third person, past, participle, -ing. Other words have one."""


@cache
def own() -> Thesaurus:
    """The table in `sartor/embedded/synonyms/en.txt`."""
    text = resources.files("sartor.embedded").joinpath("synonyms", "en.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return alternatives((part.strip(), words.split()) for part, _, words in (line.partition(":") for line in lines))


def alternatives(groups: Iterable[tuple[str, Sequence[str]]]) -> Thesaurus:
    """From (part of speech, words of one meaning): a word is `base` or all its forms as `buy/buys/bought/bought/buying`.

    A form can be replaced where it belongs to one group only, and where the other word has one form for every use of it:
    "put" may be a past or not, so only what is alike in both can take its place.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    owner: dict[str, set[int]] = defaultdict(set)
    for number, (part, words) in enumerate(groups):
        tables = [_forms(word, part) for word in words]
        for table in tables:
            for form in set(table):
                owner[form].add(number)
                places = [place for place, each in enumerate(table) if each == form]
                for other in tables:
                    fitting = {other[place] for place in places}
                    if other is not table and len(fitting) == 1:
                        found[form].update(dict.fromkeys(fitting))
    return {form: tuple(others) for form, others in found.items() if len(owner[form]) == 1}


def _forms(word: str, part: str) -> tuple[str, ...]:
    given = tuple(form.replace("_", " ") for form in word.split("/"))
    count = FORMS.get(part, 1)
    if len(given) == count:
        return given
    if len(given) != 1:
        raise ValueError(f"{word}: {count} forms are needed")
    base = given[0]
    return (base, _plural(base)) if part == "n" else (base, _plural(base), *[_past(base)] * 2, _ing(base))


def _plural(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2] not in "aeiou" else f"{word}s"


def _past(word: str) -> str:
    if word.endswith("e"):
        return f"{word}d"
    return f"{word[:-1]}ied" if word.endswith("y") and word[-2] not in "aeiou" else f"{word}ed"


def _ing(word: str) -> str:
    return f"{word[:-1]}ing" if word.endswith("e") and not word.endswith("ee") else f"{word}ing"


def wordnet_files(path: Path) -> list[Path]:
    """The files of a WordNet that are read."""
    return [path / f"data.{part}" for part in PARTS] if path.is_dir() else [path]


def wordnet(path: Path, meanings: int) -> Thesaurus:
    """Single words of WordNet in their base form, with those of all their meanings together.

    Words with more than `meanings` of them are left out: which one is meant cannot be told from the word. Raises DataError
    D197 where `path` holds no WordNet.
    """
    senses: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for file in wordnet_files(path):
        try:
            with file.open(encoding="utf-8") as lines:
                for word, others in _listed(lines) if file.suffix == ".jsonl" else _synsets(lines):
                    senses[word].append(others)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as fault:
            fix = "name the folder with data.noun, data.verb, data.adj and data.adv, or a JSONL file of lemma, synonyms"
            what = f"this is no file of WordNet ({fault})"
            raise DataError(Problem("D197", what, file=str(file), fix=fix)) from None
    known = {word: found for word, found in senses.items() if len(found) <= meanings and any(found)}
    return {word: tuple(dict.fromkeys(other for group in found for other in group)) for word, found in known.items()}


Sense = tuple[str, tuple[str, ...]]
"""A word, and the other words for one of its meanings."""


def _synsets(lines: Iterable[str]) -> Iterator[Sense]:
    """Of a data file (wndb(5)): `offset file type count word id word id ...`, the count in hexadecimal."""
    for line in lines:
        if not line.startswith(" "):
            fields = line.split(" ")
            names = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            words = [word for name in names if _plain(word := name.partition("(")[0])]
            for word in words:
                yield word, tuple(other for other in words if other != word)


def _listed(lines: Iterable[str]) -> Iterator[Sense]:
    """Of a JSONL file, where all synonyms of a lemma as one part of speech count as one meaning of it."""
    for line in lines:
        entry = json.loads(line)
        lemma = str(entry["lemma"])
        if _plain(lemma):
            yield lemma, tuple(word for word in map(str, entry["synonyms"]) if _plain(word))


def _plain(word: str) -> bool:
    """One word of small letters; names and expressions are left out."""
    return word.isalpha() and word.islower() and len(word) > 1
