"""Ratings with a pattern that has nothing to do with quality teach that pattern.

pref.jsonl:8: warning D171: chosen is longer in 96 % of 400 pairs (length bias).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import percent
from sartor.data.dataset import Dataset
from sartor.data.rows import Judged, Message, Preference, Ranking, Row
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

BIASED = 0.8
"""Share of pairs whose chosen answer is the longer one from which length is a bias."""
ENOUGH = 20
"""Fewer pairs than this say nothing about a bias."""


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D171 (chosen is nearly always the longer one) and D172 (one verdict only)."""
    yield from _length_bias(dataset)
    yield from _one_verdict(dataset)


def _of_kind(dataset: Dataset, kind: str) -> list[int]:
    if kind not in dataset.kinds:
        return []
    return [int(row) for row in np.flatnonzero(dataset.index.kind == dataset.kinds.index(kind))]


def _length_bias(dataset: Dataset) -> Iterator[Problem]:
    yield from _longer(dataset, _of_kind(dataset, Preference.kind), "chosen is longer in {} of {:,} pairs")
    what = "the best answer is longer than the worst in {} of {:,} rankings"
    yield from _longer(dataset, _of_kind(dataset, Ranking.kind), what)


def _longer(dataset: Dataset, rows: list[int], what: str) -> Iterator[Problem]:
    if len(rows) < ENOUGH:
        return
    longer = 0
    first: int | None = None
    for at in rows:
        better, worse = _best_and_worst(dataset[at])
        if better > worse:
            longer += 1
            first = at if first is None else first
    if first is not None and longer >= BIASED * len(rows):
        origin = dataset.origin(first)
        said = what.format(percent(longer, len(rows)), len(rows))
        fix = "add rows whose better answer is the shorter one"
        yield Problem("D171", f"{said} (length bias)", file=origin.file, line=origin.line, fix=fix, level="warning")


def _best_and_worst(row: Row) -> tuple[int, int]:
    """Characters of the better and of the worse answer."""
    if isinstance(row, Preference):
        return _size(row.chosen), _size(row.rejected)
    assert isinstance(row, Ranking)
    places = [row.scores.index(score) for score in (max(row.scores), min(row.scores))]
    best, worst = (_size(row.answers[place]) for place in places)
    return best, worst


def _size(turns: tuple[Message, ...]) -> int:
    return sum(len(turn.content) for turn in turns)


def _one_verdict(dataset: Dataset) -> Iterator[Problem]:
    rows = _of_kind(dataset, Judged.kind)
    verdicts = set()
    for at in rows:
        row = dataset[at]
        assert isinstance(row, Judged)
        verdicts.add(row.liked)
        if len(verdicts) == 2:
            return
    if len(rows) > 1:
        origin = dataset.origin(rows[0])
        what = f"only one label value: all {len(rows):,} rows are {'true' if verdicts == {True} else 'false'}"
        yield Problem("D172", what, file=origin.file, line=origin.line, fix="add rows with the other label")
