"""The same rows out of many, whatever their order in the file."""

from __future__ import annotations

import numpy as np

from sartor.data.dataset import Dataset
from sartor.data.groups import Rows
from sartor.data.similarity import mixed

SEED = 20262


def sample(dataset: Dataset, most: int, among: Rows | None = None) -> list[int]:
    """At most `most` rows of the data set, or of `among`, ascending; which ones is decided by their content."""
    rows = np.arange(len(dataset)) if among is None else among
    if len(rows) > most:
        key = mixed(dataset.index.content[rows, 0], SEED)
        rows = np.sort(rows[np.argsort(key, kind="stable")[:most]])
    return [int(row) for row in rows]
