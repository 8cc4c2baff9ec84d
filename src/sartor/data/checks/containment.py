"""A test question that stands inside a longer training row was seen in training, however different the two rows look.

test.jsonl:4: error D152: 92 % of its n-grams stand in train.jsonl:902 (3 of 400 test rows, 0.8 %).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import further_lines, percent
from sartor.data.dataset import Dataset
from sartor.data.leaks import contained
from sartor.data.split import PARTS, Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D152 for each part measured on: an error where the user gave its rows, a warning where we divided them."""
    if not splits.divided:
        return
    alike, prompt = splits.clusters.alike, dataset.index.prompt
    found: dict[int, dict[int, tuple[int, float]]] = {}
    for row, held, share in contained(dataset, splits):
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
