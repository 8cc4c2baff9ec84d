"""Texts that nobody would want a model to write: it repeats itself, breaks off, speaks of being an AI, or is garbled.

train.jsonl:31: warning D145: the answer repeats itself (12 rows).
train.jsonl:40: warning D146: more signs than letters.
train.jsonl:8: warning D147: the answer breaks off in the middle of a sentence; 98.2 % of 4,800 like it end (87 rows).
train.jsonl:5: warning D148: "As an AI" boilerplate in an answer (14 rows).
train.jsonl:9: warning D149: rests of a wrong encoding (3 rows).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import Sightings, further_lines, percent
from sartor.data.dataset import Dataset
from sartor.data.outcome import texts
from sartor.data.quality import boilerplate, broken_encoding, ends, mostly_signs, repeats
from sartor.data.rows import Text
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

MOST_END = 0.9
"""Where fewer of the longer answers end like sentences, ending otherwise is the style of the data."""
ENOUGH = 20
FIXES = {
    "D145": "leave such rows out, or cut the repetition",
    "D146": "leave such rows out, unless this is what the model should write",
    "D148": "rewrite these answers; a model tuned on them says it to your users",
    "D149": "read the file with its right encoding, or clean it with the stage unicode",
}


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D145, D146, D148 and D149 for each file; D147 once."""
    seen = {code: Sightings(dataset) for code in FIXES}
    ended = 0
    open_ended: list[int] = []
    for at, row in enumerate(dataset):
        answer = row.text if isinstance(row, Text) else row.answer_text()
        whose = "the text" if isinstance(row, Text) else "the answer"
        if repeats(answer):
            seen["D145"].add(at, f"{whose} repeats itself")
        if mostly_signs(answer):
            seen["D146"].add(at, "more signs than letters")
        if not isinstance(row, Text):
            if boilerplate(answer):
                seen["D148"].add(at, '"As an AI" boilerplate in an answer')
            sound = ends(answer)
            ended += sound is True
            if sound is False:
                open_ended.append(at)
        if any(map(broken_encoding, texts(row))):
            seen["D149"].add(at, "rests of a wrong encoding")
    for code, sightings in seen.items():
        yield from sightings.problems(code, "warning", FIXES[code])
    like_it = ended + len(open_ended)
    if open_ended and like_it >= ENOUGH and ended >= MOST_END * like_it:
        origin = dataset.origin(open_ended[0])
        count = f" ({len(open_ended):,} rows)" if len(open_ended) > 1 else ""
        yield Problem(
            "D147",
            f"the answer breaks off in the middle of a sentence; {percent(ended, like_it)} of {like_it:,} like it end{count}",
            file=origin.file,
            line=origin.line,
            fix="complete these answers or leave them out: the model would learn to stop anywhere",
            level="warning",
            rows=further_lines(dataset, np.array(open_ended), open_ended[0]),
        )
