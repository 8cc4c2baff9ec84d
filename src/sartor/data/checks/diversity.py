"""An answer that many different questions get is what the model will say when in doubt.

train.jsonl:4: warning D168: 31 % of 4,812 answers are the same (1,492 rows).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import further_lines, percent
from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Prompt, Text
from sartor.data.split import Splits
from sartor.data.watching import Look, Watcher
from sartor.data.wording import fingerprint64
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "watch"]

MANY = 0.2
"""Share of the rows with one answer from which it stands out ..."""
OPEN = 0.2
"""... where at least this share of the answers is different, so that they are no classes."""
ENOUGH = 50


def watch(dataset: Dataset, splits: Splits) -> Watcher:
    """D168, once, at the first row with the commonest answer; labelled rows and raw texts have none."""
    return _Watcher(dataset)


class _Watcher:
    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._said = np.zeros(len(dataset), np.uint64)

    def see(self, at: int, look: Look) -> None:
        row = look.row
        if not isinstance(row, Text | Prompt) and not (isinstance(row, Example) and row.label is not None):
            self._said[at] = fingerprint64(look.answered)

    def problems(self) -> Iterator[Problem]:
        dataset, said = self._dataset, self._said[self._said != 0]
        if len(said) < ENOUGH:
            return
        different, counts = np.unique(said, return_counts=True)
        most = int(counts.argmax())
        if counts[most] < MANY * len(said) or len(different) < OPEN * len(said):
            return
        same = np.flatnonzero(self._said == different[most])
        origin = dataset.origin(int(same[0]))
        yield Problem(
            "D168",
            f"{percent(len(same), len(said))} of {len(said):,} answers are the same ({len(same):,} rows)",
            file=origin.file,
            line=origin.line,
            fix="leave most of them out, unless the model should answer like this that often",
            level="warning",
            rows=further_lines(dataset, same, int(same[0])),
        )
