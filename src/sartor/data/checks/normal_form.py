"""The same letter in two spellings of Unicode is two different tokens.

train.jsonl:5: info S312: text is not in the normal form NFC (letters and accents are written apart) (12 rows).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from sartor.data.checks._sightings import Sightings
from sartor.data.dataset import Dataset
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """S312, one for each file."""
    seen = Sightings(dataset)
    for block in dataset.blocks():
        if block.data.isascii():
            continue
        for at, line in enumerate(block.lines(), block.first):
            if not line.isascii() and not unicodedata.is_normalized("NFC", line.decode()):
                seen.add(at, "text is not in the normal form NFC (letters and accents are written apart)")
    yield from seen.problems(
        "S312", "info", "clean the rows with the stage unicode, so that equal words are equal tokens"
    )
