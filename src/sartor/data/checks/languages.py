"""A few rows in another language are mostly rows that came along by mistake.

train.jsonl:18: warning D164: the answer is in French; 4,770 of 4,812 are in English (12 rows).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

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

ROWS = 20_000
"""Rows whose language is looked up; of more, a fixed sample."""
NEARLY_ALL = 0.9
ENOUGH = 20
"""Texts of a clear language; fewer say nothing about a mixture."""


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D164 for each file and each language, what is asked and what is answered apart."""
    spoken: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in sample(dataset, ROWS):
        read = dataset[row]
        if isinstance(read, Text):
            spoken["text"].append((row, read.text))
        else:
            spoken["prompt"].append((row, asked(read)))
            spoken["answer"].append((row, read.answer_text()))
    for whose, texts in spoken.items():
        codes = clear(text for _, text in texts)
        counts = Counter(code for code in codes if code)
        whole = sum(counts.values())
        usual, most = counts.most_common(1)[0] if counts else ("", 0)
        if whole < ENOUGH or most < NEARLY_ALL * whole:
            continue
        seen = Sightings(dataset)
        share = f"{most:,} of {whole:,} are in {name_of(usual)}"
        for (row, _), code in zip(texts, codes, strict=True):
            if code not in (None, usual):
                seen.add(row, f"the {whose} is in {name_of(code)}; {share}")
        yield from seen.problems("D164", "warning", "leave these rows out, unless the model should know this language")
