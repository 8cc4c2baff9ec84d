"""A misspelt label is a class of its own that the model learns and the score punishes.

train.jsonl:77: error D161: label "postive" is used once; did you mean "positive" (1,204)?
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import further_lines
from sartor.data.dataset import Dataset
from sartor.data.slips import LABELS, OFTEN, RARE, folded, is_slip
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D161: an error for a rare label one slip away from a frequent one, a warning for labels that differ in case only."""
    codes = dataset.index.label
    counts = np.bincount(codes[codes >= 0], minlength=len(dataset.labels))
    used = [code for code in np.argsort(-counts, kind="stable") if counts[code]]
    if not 2 <= len(used) <= LABELS:
        return
    names = dataset.labels
    for code in used:
        alike = [other for other in used if other != code and folded(names[other]) == folded(names[code])]
        near = next(
            (other for other in used if counts[other] >= OFTEN * counts[code] and is_slip(names[code], names[other])),
            None,
        )
        rows = np.flatnonzero(codes == code)
        origin = dataset.origin(int(rows[0]))
        times = {1: "once", 2: "twice"}.get(int(counts[code]), f"{counts[code]:,} times")
        if counts[code] <= RARE and near is not None:
            what = f'label "{names[code]}" is used {times}; did you mean "{names[near]}" ({counts[near]:,})?'
            fix = "correct the label, or   data: {clean: [{labels: {repair: true}}]}   ; if it is meant, give it more rows"
            level = "error"
        elif alike and counts[alike[0]] > counts[code]:
            what = f'label "{names[code]}" is used {times}, "{names[alike[0]]}" {counts[alike[0]]:,} times: two classes that differ in case, spaces or signs only'
            fix, level = "write them alike", "warning"
        else:
            continue
        yield Problem(
            "D161",
            what,
            file=origin.file,
            line=origin.line,
            fix=fix,
            level="error" if level == "error" else "warning",
            rows=further_lines(dataset, rows, int(rows[0])),
        )
