"""A few rows in another language are mostly rows that came along by mistake.

train.jsonl:18: warning D164: the answer is in French; 4,770 of 4,812 are in English (12 rows).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from sartor.data.checks._sightings import Sightings
from sartor.data.dataset import Dataset
from sartor.data.language import clear, name_of
from sartor.data.rows import Text
from sartor.data.sampling import sample
from sartor.data.split import Splits
from sartor.data.wording import asked
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

FIRST = 2_000
"""Rows whose language is looked up in any case; of more, a fixed sample."""
ROWS = 20_000
"""Rows whose language is looked up where some of the first ones stand out; of more, a fixed sample."""
NEARLY_ALL = 0.9
ENOUGH = 20
"""Texts of a clear language; fewer say nothing about a mixture."""


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D164 for each file and each language, what is asked and what is answered apart.

    Where no row of a sample of `FIRST` stands out, others may be at most one of several hundred, and are not looked for.
    """
    first = sample(dataset, FIRST)
    spoken = _spoken(dataset, first)
    if len(first) < len(dataset) and any(_stands_out(codes) for codes in spoken.values()):
        known = set(first)
        for whose, codes in _spoken(dataset, [row for row in sample(dataset, ROWS) if row not in known]).items():
            spoken[whose] = dict(sorted((spoken.get(whose, {}) | codes).items()))
    for whose, codes in spoken.items():
        usual, most, whole = _usual(codes)
        if whole < ENOUGH or most < NEARLY_ALL * whole:
            continue
        seen = Sightings(dataset)
        some = f" in a sample of {len(codes):,} rows" if len(codes) < len(dataset) else ""
        share = f"{most:,} of {whole:,}{some} are in {name_of(usual)}"
        for row, code in codes.items():
            if code not in (None, usual):
                seen.add(row, f"the {whose} is in {name_of(code)}; {share}")
        yield from seen.problems("D164", "warning", "leave these rows out, unless the model should know this language")


Codes = dict[int, str | None]
"""Row -> the language of a text of it, None where that is not clear."""


def _spoken(dataset: Dataset, rows: Sequence[int]) -> dict[str, Codes]:
    """The languages of the texts of these rows, by whose they are."""
    said: dict[str, dict[int, str]] = defaultdict(dict)
    for at in rows:
        row = dataset[at]
        if isinstance(row, Text):
            said["text"][at] = row.text
        else:
            said["prompt"][at] = asked(row)
            said["answer"][at] = row.answer_text()
    return {whose: dict(zip(texts, clear(texts.values()), strict=True)) for whose, texts in said.items()}


def _usual(codes: Codes) -> tuple[str, int, int]:
    """(the commonest language, texts in it, texts of a clear language)."""
    counts = Counter(code for code in codes.values() if code)
    usual, most = counts.most_common(1)[0] if counts else ("", 0)
    return usual, most, sum(counts.values())


def _stands_out(codes: Codes) -> bool:
    """Whether nearly all of the texts are in one language, and some are not."""
    _, most, whole = _usual(codes)
    return whole >= ENOUGH and NEARLY_ALL * whole <= most < whole
