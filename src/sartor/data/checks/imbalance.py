"""Where one label is most of the rows, accuracy flatters a model that never says anything else.

train.jsonl:3: warning D162: "neutral" is 0.8 % of 5,000; accuracy would be 91 % by always saying "positive".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import further_lines, percent
from sartor.data.dataset import Dataset
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

DOMINANT = 0.8
"""A label with this share of the rows dominates."""
RARE = 0.1
"""A label with less than this times an even share is rare."""
ENOUGH = 20
"""Fewer labelled rows than this say nothing about balance."""


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D162: an error where there is one label only, a warning where one dominates or one is rare."""
    codes = dataset.index.label[dataset.index.label >= 0]
    if len(codes) < ENOUGH:
        return
    counts = np.bincount(codes, minlength=len(dataset.labels))
    used = np.flatnonzero(counts)
    most, least = used[counts[used].argmax()], used[counts[used].argmin()]
    rows = np.flatnonzero(dataset.index.label == least)
    origin = dataset.origin(int(rows[0]))
    if len(used) == 1:
        what = (
            f'every one of {len(codes):,} rows has the label "{dataset.labels[most]}": there is nothing to tell apart'
        )
        yield Problem("D162", what, file=origin.file, line=origin.line, fix="add rows with other labels")
        return
    if counts[most] < DOMINANT * len(codes) and counts[least] >= RARE * len(codes) / len(used):
        return
    rarest = f'"{dataset.labels[least]}" is {percent(int(counts[least]), len(codes))} of {len(codes):,}'
    always = f'accuracy would be {percent(int(counts[most]), len(codes))} by always saying "{dataset.labels[most]}"'
    yield Problem(
        "D162",
        f"{rarest}; {always}",
        file=origin.file,
        line=origin.line,
        fix="judge by macro F1, which counts every label alike; add rows of the rare labels",
        level="warning",
        rows=further_lines(dataset, rows, int(rows[0])),
    )
