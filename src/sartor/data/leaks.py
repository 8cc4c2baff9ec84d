"""Keeps what will be measured on out of what is learnt: the rows held out, and the files of `data.against`."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data import contamination
from sartor.data.clusters import asking
from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.groups import Rows
from sartor.data.overlap import Grams, Search
from sartor.data.split import PARTS, Splits
from sartor.data.watching import Look, show
from sartor.data.wording import asked
from sartor.errors import Problem
from sartor.events import Event, Progressed
from sartor.recipe.schema import Data

TRAINING = 2
"""Parts below this number are learnt from or steer training."""


def guard(
    dataset: Dataset, splits: Splits, data: Data, root: Path, findings: Findings, emit: Callable[[Event], None]
) -> Splits:
    """The parts without rows that leak, where `data.on_leak` says drop; the same parts and findings D153 where it does not.

    Leaks between our own parts are told by the checks (D151, D152).
    """
    if data.on_leak == "drop":
        splits = _unleaked(dataset, splits, findings)
    if not data.against:
        return splits
    emit(Progressed("comparing with data.against", 0))
    items = list(contamination.items_of(data.against, root, findings))
    rows = np.flatnonzero((splits.part >= 0) & (splits.part < TRAINING))
    found = contamination.compare(dataset, rows, items, data.split.near_duplicates)
    drop = data.on_leak == "drop"
    for problem in contamination.problems(dataset, found):
        findings.add(contamination.forgiven(problem) if drop else problem)
    if drop and found.matches:
        for match in found.matches:
            findings.drop(dataset.origin(match.row), "leak", contamination.reason(found, match))
        splits = splits.without(dataset, {match.row: -1 for match in found.matches})
    return replace(splits, against={**found.json(), "dropped": len(found.matches) if drop else 0})


class Containment:
    """Sees every row, and finds those that hold the words of a held-out row.

    Test rows are looked for in all other rows, validation rows in training rows.
    """

    def __init__(self, dataset: Dataset, splits: Splits) -> None:
        self._part = array("b", splits.part.tobytes())
        self._searches: dict[int, tuple[Rows, Rows, Search]] = {}
        for part in (2, 1):
            held = np.flatnonzero(splits.part == part)
            learnt = np.flatnonzero((splits.part >= 0) & (splits.part < part))
            if len(held) and len(learnt):
                items = [asked(row) for row in dataset.those(held)]
                self._searches[part] = learnt, held, Search(Grams(items))

    def see(self, at: int, look: Look) -> None:
        """Row number `at`."""
        own = self._part[at]
        for part, (_, _, search) in self._searches.items():
            if 0 <= own < part:
                search.add(look.codes)

    def found(self) -> Iterator[tuple[int, int, float]]:
        """(row that is learnt, held-out row whose words stand in it, share of its n-grams), at most one for each row and part."""
        for learnt, held, search in self._searches.values():
            found = search.held()
            for text, item, share in zip(found.text, found.item, found.share, strict=True):
                yield int(learnt[text]), int(held[item]), float(share)


def _unleaked(dataset: Dataset, splits: Splits, findings: Findings) -> Splits:
    """Without the rows that are equal, nearly equal or hold a row of a part that is measured on."""
    alike = splits.clusters.alike
    twins: dict[int, int] = {}
    for part in (2, 1):
        for key in (asking(dataset.index.prompt), dataset.index.text, alike + alike.dtype.type(1)):
            twins = dict(_equal(key, splits.part, part)) | twins
    containment = Containment(dataset, splits)
    show(dataset, containment)
    for row, held, _ in containment.found():
        twins.setdefault(row, held)
    if not twins:
        return splits
    rows = sorted(twins)
    for row in rows:
        findings.drop(dataset.origin(row), "leak", f"gives away the held-out row {dataset.origin(twins[row])}")
    for file, mine in groupby(rows, key=lambda row: dataset.files[dataset.index.file[row]]):
        lines = [dataset.origin(row).line for row in mine]
        what = f"{len(lines):,} rows give away rows of {PARTS[1]} or {PARTS[2]}; left out of training (data.on_leak)"
        fix = "nothing needs doing; dropped.jsonl names each with its twin"
        findings.add(Problem("D157", what, file=file, line=lines[0], rows=tuple(lines[1:1000]), fix=fix, level="info"))
    return splits.without(dataset, twins)


def _equal(key: NDArray[Any], parts: NDArray[np.int8], part: int) -> Iterator[tuple[int, int]]:
    """(row of a lower part, first row of `part` with the same key); a key of 0 equals nothing."""
    held: Rows = np.flatnonzero((parts == part) & (key > 0))
    first, at = np.unique(key[held], return_index=True)
    if len(first):
        learnt = np.flatnonzero((parts >= 0) & (parts < part))
        place = np.minimum(np.searchsorted(first, key[learnt]), len(first) - 1)
        same = first[place] == key[learnt]
        yield from zip(learnt[same].tolist(), held[at[place[same]]].tolist(), strict=True)
