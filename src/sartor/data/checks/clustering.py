"""A cluster is never divided, so a very large one decides the split by itself; and what links it may not be copies.

train.jsonl:2: warning D156: 4,812 rows (48 %) must stay together: equal prompts, equal groups or near copies.
train.jsonl:1: info D158: 2,100 rows resemble each other by a common frame or a chain of small changes; ...
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

LARGE = 0.2
"""A cluster with this share of the rows does not fit where the shares are small."""
ENOUGH = 20
"""In fewer rows than this, a cluster is large soon."""


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D156 for the largest cluster where it is too large, D158 where near-duplicates were looked at more closely."""
    clusters = splits.clusters
    if len(dataset) < ENOUGH:
        return
    largest = int(clusters.sizes.argmax())
    rows = np.flatnonzero(clusters.of == largest)
    if len(rows) >= LARGE * len(dataset):
        origin = dataset.origin(int(rows[0]))
        share = percent(len(rows), len(dataset))
        yield Problem(
            "D156",
            f"{len(rows):,} rows ({share}) must stay together: equal prompts, equal groups or near copies",
            file=origin.file,
            line=origin.line,
            fix="remove copies, choose a finer group, or raise data.split.near_duplicates",
            level="warning",
            rows=further_lines(dataset, rows, int(rows[0])),
        )
    for group in clusters.large:
        rows = np.sort(group)
        origin = dataset.origin(int(rows[0]))
        what = (
            f"{len(rows):,} rows resemble each other by a common frame or a chain of small changes; "
            "they count as copies only where what is their own is alike"
        )
        yield Problem(
            "D158",
            what,
            file=origin.file,
            line=origin.line,
            fix="nothing needs doing; give a group if rows of a common source must stay together",
            level="info",
            rows=further_lines(dataset, rows, int(rows[0])),
        )
