"""A test question that stands inside a longer training row was seen in training, however different the two rows look.

test.jsonl:4: error D152: 92 % of its n-grams stand in train.jsonl:902 (3 of 400 test rows, 0.8 %).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import further_lines, percent
from sartor.data.dataset import Dataset
from sartor.data.leaks import Containment
from sartor.data.split import PARTS, Splits
from sartor.data.watching import Look, Watcher
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "watch"]


def watch(dataset: Dataset, splits: Splits) -> Watcher:
    """D152 for each part measured on: an error where the user gave its rows, a warning where we divided them."""
    return _Watcher(dataset, splits)


class _Watcher:
    def __init__(self, dataset: Dataset, splits: Splits) -> None:
        self._dataset, self._splits = dataset, splits
        self._containment = Containment(dataset, splits)

    def see(self, at: int, look: Look) -> None:
        self._containment.see(at, look)

    def problems(self) -> Iterator[Problem]:
        return _told(self._dataset, self._splits, self._containment)


def _told(dataset: Dataset, splits: Splits, containment: Containment) -> Iterator[Problem]:
    alike, prompt = splits.clusters.alike, dataset.index.prompt
    found: dict[int, dict[int, tuple[int, float]]] = {}
    for row, held, share in containment.found():
        told = prompt[row] == prompt[held] or alike[row] == alike[held]
        if not told:
            found.setdefault(int(splits.part[held]), {}).setdefault(held, (row, share))
    for part, leaks in found.items():
        rows = np.array(sorted(leaks), np.int64)
        first = int(rows[0])
        twin, share = leaks[first]
        whole = int((splits.part == part).sum())
        origin = dataset.origin(first)
        yield Problem(
            "D152",
            f"{100 * share:.0f} % of its n-grams stand in {dataset.origin(twin)} "
            f"({len(rows):,} of {whole:,} {PARTS[part]} rows, {percent(len(rows), whole)})",
            file=origin.file,
            line=origin.line,
            fix="data.on_leak: drop leaves the rows that hold it out of training",
            level="error" if splits.given[rows].any() else "warning",
            rows=further_lines(dataset, rows, first),
        )
