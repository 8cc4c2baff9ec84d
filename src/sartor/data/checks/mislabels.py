"""A row whose text reads like the rows of another label was probably labelled by mistake; a person should look.

train.jsonl:12: warning D163: label "card_arrival" is doubtful, the text reads like "card_linking" (0.02 against 0.91) (31 rows, the most doubtful first).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import LISTED
from sartor.data.dataset import Dataset
from sartor.data.mislabels import rank
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D163, one for each file, at its most doubtful row."""
    found = rank(dataset, splits)
    if found is None:
        return
    places = np.flatnonzero(found.suspected)
    index = dataset.index
    for file in dict.fromkeys(index.file[found.rows[places]].tolist()):
        mine = places[index.file[found.rows[places]] == file]
        first = int(mine[0])
        row = int(found.rows[first])
        given, other = (dataset.labels[code] for code in (index.label[row], found.other[first]))
        chances = f"{found.given_probability[first]:.2f} against {found.other_probability[first]:.2f}"
        count = f" ({len(mine):,} rows, the most doubtful first)" if len(mine) > 1 else ""
        origin = dataset.origin(row)
        yield Problem(
            "D163",
            f'label "{given}" is doubtful, the text reads like "{other}" ({chances}){count}',
            file=origin.file,
            line=origin.line,
            fix="read these rows and correct their labels; the report shows each with its score",
            level="warning",
            rows=tuple(int(line) for line in index.line[found.rows[mine[1 : LISTED + 1]]]),
        )
