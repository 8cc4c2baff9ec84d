"""Leaves out rows whose length is far from that of the others: pasted files, cut answers, answers out of proportion.

    clean: [outliers]
    clean: [{outliers: 8}]

Looked at are the logarithms of the characters of the prompt, of the answer, and of their ratio. A row goes where one of them is
more than `threshold` robust standard deviations from the median; the deviation is 1.4826 times the median absolute deviation
(Rousseeuw and Croux 1993), and at least 0.2, so that nothing goes that is less than exp(0.2 threshold) times as long or as short.
Rows of one stratum (their label, by default) are compared with each other where there are at least 30, otherwise with all.
The answer of a labelled row is its label and is not looked at. Under 30 rows nothing goes.

Length is all it sees: an odd row of usual length stays, and a rare but right long one goes; see dropped.jsonl.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sartor.data.cleaning import Roles
from sartor.data.dataset import Dataset
from sartor.data.outcome import Drop, Outcome, Short
from sartor.data.rows import Example, Row, Text
from sartor.data.wording import answered, asked

__all__ = ["Options", "decide"]

ENOUGH = 30
FLOOR = 0.2
EVERY = 1000
WHAT = (
    ("the prompt is far shorter than usual", "the prompt is far longer than usual"),
    ("the answer is far shorter than usual", "the answer is far longer than usual"),
    ("the answer is far too short for its prompt", "the answer is far too long for its prompt"),
)


class Options(Short):
    """How far is too far."""

    main: ClassVar[str] = "threshold"

    threshold: Annotated[float, Field(ge=1)] = 6.0
    """Robust standard deviations from the median."""
    side: Literal["both", "short", "long"] = "both"
    """Which outliers go."""


def decide(
    dataset: Dataset, roles: Roles, options: Options, seen: Callable[[int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Drops rows; changes none."""
    values = _values(dataset, seen)
    groups = _groups(dataset)
    found: dict[int, str] = {}
    for column, (shorter, longer) in zip(values.T, WHAT, strict=True):
        score = _scores(column, groups)
        if options.side != "long":
            found = dict.fromkeys(np.flatnonzero(score < -options.threshold).tolist(), shorter) | found
        if options.side != "short":
            found = dict.fromkeys(np.flatnonzero(score > options.threshold).tolist(), longer) | found
    for row in sorted(found):
        yield row, Drop(found[row])


def _values(dataset: Dataset, seen: Callable[[int], None]) -> NDArray[np.float64]:
    """[n, 3] logarithms of lengths and their difference; nan where there is nothing to measure."""
    held = array("d")
    for number, row in enumerate(dataset, 1):
        held.extend(_measures(row))
        if number % EVERY == 0:
            seen(number)
    return np.frombuffer(held, np.float64).reshape(-1, 3)


def _measures(row: Row) -> tuple[float, float, float]:
    prompt = math.log1p(len(asked(row)))
    if isinstance(row, Text) or (isinstance(row, Example) and row.label is not None):
        return prompt, math.nan, math.nan
    answer = math.log1p(len(answered(row)))
    return prompt, answer, answer - prompt


def _groups(dataset: Dataset) -> NDArray[np.int32]:
    """[n] the stratum of each row; -1 where it is too small to be compared within."""
    stratum = dataset.index.stratum
    sizes = np.bincount(stratum[stratum >= 0], minlength=1)
    return np.where((stratum >= 0) & (sizes[stratum] >= ENOUGH), stratum, -1).astype(np.int32)


def _scores(values: NDArray[np.float64], groups: NDArray[np.int32]) -> NDArray[np.float64]:
    """[n] robust standard deviations from the median of the group, of all rows for group -1; 0 where nothing can be said."""
    scores = np.zeros(len(values))
    for group in np.unique(groups):
        mine = groups == group
        known = values[mine] if group >= 0 else values
        known = known[np.isfinite(known)]
        if len(known) < ENOUGH:
            continue
        middle = np.median(known)
        deviation = max(1.4826 * float(np.median(np.abs(known - middle))), FLOOR)
        scores[mine] = np.nan_to_num((values[mine] - middle) / deviation)
    return scores
