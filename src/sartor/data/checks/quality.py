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
from sartor.data.quality import boilerplate, broken_encoding, ends, mostly_signs, repeated
from sartor.data.rows import Text
from sartor.data.split import Splits
from sartor.data.watching import Look, Watcher
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "watch"]

MOST_END = 0.9
"""Where fewer of the longer answers end like sentences, ending otherwise is the style of the data."""
ENOUGH = 20
FIXES = {
    "D145": "leave such rows out, or cut the repetition",
    "D146": "leave such rows out, unless this is what the model should write",
    "D148": "rewrite these answers; a model tuned on them says it to your users",
    "D149": "read the file with its right encoding, or clean it with the stage unicode",
}


def watch(dataset: Dataset, splits: Splits) -> Watcher:
    """D145, D146, D148 and D149 for each file; D147 once."""
    return _Watcher(dataset)


class _Watcher:
    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._seen = {code: Sightings(dataset) for code in FIXES}
        self._ended = 0
        self._open_ended: list[int] = []

    def see(self, at: int, look: Look) -> None:
        answer, is_text = look.answer, isinstance(look.row, Text)
        if repeated(look.answer_words):
            self._seen["D145"].add(at, f"{'the text' if is_text else 'the answer'} repeats itself")
        if mostly_signs(answer):
            self._seen["D146"].add(at, "more signs than letters")
        if not is_text:
            if boilerplate(answer):
                self._seen["D148"].add(at, '"As an AI" boilerplate in an answer')
            sound = ends(answer)
            self._ended += sound is True
            if sound is False:
                self._open_ended.append(at)
        if any(map(broken_encoding, texts(look.row))):
            self._seen["D149"].add(at, "rests of a wrong encoding")

    def problems(self) -> Iterator[Problem]:
        for code, sightings in self._seen.items():
            yield from sightings.problems(code, "warning", FIXES[code])
        dataset, ended, open_ended = self._dataset, self._ended, self._open_ended
        like_it = ended + len(open_ended)
        if open_ended and like_it >= ENOUGH and ended >= MOST_END * like_it:
            origin = dataset.origin(open_ended[0])
            count = f" ({len(open_ended):,} rows)" if len(open_ended) > 1 else ""
            share = f"{percent(ended, like_it)} of {like_it:,} like it end"
            yield Problem(
                "D147",
                f"the answer breaks off in the middle of a sentence; {share}{count}",
                file=origin.file,
                line=origin.line,
                fix="complete these answers or leave them out: the model would learn to stop anywhere",
                level="warning",
                rows=further_lines(dataset, np.array(open_ended), open_ended[0]),
            )
