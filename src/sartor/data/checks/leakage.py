"""A held-out row that was trained on proves nothing. Rows we divide cannot leak; files the user gave for a part can.

test.jsonl:4: error D151: same prompt as train.jsonl:902 (23 of 400 test rows, 5.8 %).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sartor.data.checks._sightings import further_lines, percent
from sartor.data.clusters import common
from sartor.data.dataset import Dataset
from sartor.data.split import PARTS, Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

FIX = (
    "give the training file role: split; rows that belong with a held-out row are then left out of training and counted"
)


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D151 (equal prompt or row) and D152 (nearly equal row) for test against all others, and for validation against train."""
    prompt = np.where(common(dataset.index.prompt), np.uint64(0), dataset.index.prompt)
    for part in (2, 1):
        held = np.flatnonzero(splits.part == part)
        seen = np.flatnonzero((splits.part >= 0) & (splits.part < part))
        twin = _twins(prompt, held, seen)
        twin = np.where(twin < 0, _twins(dataset.index.text, held, seen), twin)
        near = np.where(twin < 0, _twins(splits.clusters.alike.astype(np.uint64) + 1, held, seen), -1)
        what = "same text" if dataset.kinds == ("text",) else "same prompt"
        yield from _told(dataset, "D151", f"{what} as", held, twin, PARTS[part])
        yield from _told(dataset, "D152", "nearly the same as", held, near, PARTS[part])


def _twins(key: NDArray[np.uint64], held: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """[held] the first row of `seen` with the same key, or -1; a key of 0 equals nothing."""
    keys, first = np.unique(key[seen], return_index=True)
    if not len(keys):
        return np.full(len(held), -1)
    at = np.minimum(np.searchsorted(keys, key[held]), len(keys) - 1)
    found = (keys[at] == key[held]) & (key[held] > 0)
    return np.where(found, seen[first[at]], -1)


def _told(
    dataset: Dataset, code: str, what: str, held: NDArray[np.int64], twin: NDArray[np.int64], name: str
) -> Iterator[Problem]:
    leaks = held[twin >= 0]
    if not len(leaks):
        return
    first = int(leaks[0])
    origin, other = dataset.origin(first), dataset.origin(int(twin[twin >= 0][0]))
    count = f"{len(leaks):,} of {len(held):,} {name} rows, {percent(len(leaks), len(held))}"
    yield Problem(
        code,
        f"{what} {other} ({count})",
        file=origin.file,
        line=origin.line,
        fix=FIX,
        rows=further_lines(dataset, leaks, first),
    )
