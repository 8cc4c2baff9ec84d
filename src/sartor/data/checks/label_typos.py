"""A misspelt label is a class of its own that the model learns and the score punishes.

train.jsonl:77: error D161: label "postive" is used once; did you mean "positive" (1,204)?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from sartor.data.checks._sightings import further_lines
from sartor.data.dataset import Dataset
from sartor.data.split import Splits
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "check"]

RARE = 2
"""A label used more often than this is no slip of the hand ..."""
OFTEN = 10
"""... and neither is one whose neighbour is not used this many times as often."""
LABELS = 2000
"""With more labels than this they are answers, not classes."""


def check(dataset: Dataset, splits: Splits) -> Iterator[Problem]:
    """D161: an error for a rare label one slip away from a frequent one, a warning for labels that differ in case only."""
    codes = dataset.index.label
    counts = np.bincount(codes[codes >= 0], minlength=len(dataset.labels))
    used = [code for code in np.argsort(-counts, kind="stable") if counts[code]]
    if not 2 <= len(used) <= LABELS:
        return
    names = dataset.labels
    for code in used:
        folded = [other for other in used if other != code and _folded(names[other]) == _folded(names[code])]
        near = next(
            (other for other in used if counts[other] >= OFTEN * counts[code] and _slip(names, code, other)), None
        )
        rows = np.flatnonzero(codes == code)
        origin = dataset.origin(int(rows[0]))
        times = {1: "once", 2: "twice"}.get(int(counts[code]), f"{counts[code]:,} times")
        if counts[code] <= RARE and near is not None:
            what = f'label "{names[code]}" is used {times}; did you mean "{names[near]}" ({counts[near]:,})?'
            fix, level = "correct the label; if it is meant, give it more rows", "error"
        elif folded and counts[folded[0]] > counts[code]:
            what = f'label "{names[code]}" is used {times}, "{names[folded[0]]}" {counts[folded[0]]:,} times: two classes that differ in case, spaces or signs only'
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


def _folded(label: str) -> str:
    """The label's letters and digits; the label itself where it has none."""
    return "".join(filter(str.isalnum, label.casefold())) or label


def _slip(names: tuple[str, ...], code: int, other: int) -> bool:
    """Whether a slip of the hand makes one label of the other; labels that differ in digits are meant."""
    one, two = names[code].casefold(), names[other].casefold()
    if code == other or min(len(one), len(two)) < 4 or abs(len(one) - len(two)) > 2:
        return False
    if "".join(filter(str.isdigit, one)) != "".join(filter(str.isdigit, two)):
        return False
    allowed = 1 if min(len(one), len(two)) < 8 else 2
    if sum(((Counter(one) - Counter(two)) + (Counter(two) - Counter(one))).values()) > 2 * allowed:
        return False
    return _distance(one, two) <= allowed


def _distance(one: str, two: str) -> int:
    """Damerau-Levenshtein distance (optimal string alignment): inserted, deleted, changed or swapped characters."""
    before: list[int] = []
    above = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(two, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if before and j > 1 and a == two[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]
