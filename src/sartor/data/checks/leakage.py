"""A held-out row that was trained on proves nothing. Rows we divide cannot leak; files the user gave for a part can.

test.jsonl:4: error D151: same prompt as train.jsonl:902 (23 of 400 test rows, 5.8 %).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.checks._sightings import further_lines, percent
from sartor.data.clusters import asking
from sartor.data.dataset import Dataset
from sartor.data.groups import AT_ONCE, Rows, distinct
from sartor.data.split import PARTS, Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

FIX = (
    "give the training file role: split; rows that belong with a held-out row are then left out of training and counted"
)


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D151 (equal prompt or row) and D152 (nearly equal row) for test against all others, and for validation against train."""
    prompt = asking(dataset.index.prompt)
    alike = splits.clusters.alike
    for part in (2, 1):
        held = np.flatnonzero(splits.part == part)
        seen = (splits.part >= 0) & (splits.part < part)
        twin = _twins(prompt, held, seen)
        twin = np.where(twin < 0, _twins(dataset.index.text, held, seen), twin)
        near = np.where(twin < 0, _twins(alike + alike.dtype.type(1), held, seen), -1)
        what = "same text" if dataset.kinds == ("text",) else "same prompt"
        yield from _told(dataset, "D151", f"{what} as", held, twin, PARTS[part])
        yield from _told(dataset, "D152", "nearly the same as", held, near, PARTS[part])


def _twins(key: NDArray[Any], held: Rows, seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[held] the first row of `seen` with the same key, or -1; a key of 0 equals nothing."""
    keys = distinct(key[held])
    if not len(keys):
        return np.zeros(0, np.int64)
    first = np.full(len(keys), -1, np.int64)
    # From the last row to the first, some at a time: of several rows with one key the first stays.
    for begin in reversed(range(0, len(key), AT_ONCE)):
        rows = np.flatnonzero(seen[begin : begin + AT_ONCE])[::-1] + begin
        at = np.minimum(np.searchsorted(keys, key[rows]), len(keys) - 1)
        met = keys[at] == key[rows]
        first[at[met]] = rows[met]
    return np.where(key[held] > 0, first[np.searchsorted(keys, key[held])], -1)


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
