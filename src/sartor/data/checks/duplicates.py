"""The same row twice weighs double in training, and fools nobody only because the split keeps copies together.

train.jsonl:15: warning D150: same as train.jsonl:3 (214 exact, 61 near duplicates, 5.7 %).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import further_lines, percent
from sartor.data.dataset import Dataset
from sartor.data.groups import count_up, first_equal, first_same
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D150, once, at the first row that repeats an earlier one."""
    rows = count_up(len(dataset))
    original = first_equal(dataset.index.text)
    alike = first_same(splits.clusters.alike, len(dataset))
    exact = original != rows
    copies = np.flatnonzero(alike != rows)
    if not len(copies):
        return
    first = int(copies[0])
    twin = int(original[first] if exact[first] else alike[first])
    likeness = "same as" if exact[first] else "nearly the same as"
    counts = f"{int(exact.sum()):,} exact, {len(copies) - int(exact.sum()):,} near duplicates"
    origin = dataset.origin(first)
    yield Problem(
        "D150",
        f"{likeness} {dataset.origin(twin)} ({counts}, {percent(len(copies), len(dataset))})",
        file=origin.file,
        line=origin.line,
        fix="remove the copies, or leave them: they count more in training, and the split keeps them together",
        level="warning",
        rows=further_lines(dataset, copies, first),
    )
