"""p-values that allow for having looked at many metrics and models: the more one looks at, the more often chance looks like a find.

holm: the chance that any of all "better" or "worse" is a false one stays at the level; p(i) * (m - i + 1), the largest so far.
Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
benjamini_hochberg: of those that are called better or worse, the share that is false stays at the level on average; p(i) * m / i, the
smallest from there on. Benjamini and Hochberg 1995, "Controlling the False Discovery Rate".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Correction = Literal["holm", "benjamini_hochberg", "none"]
TOLD = {"holm": "Holm", "benjamini_hochberg": "Benjamini and Hochberg", "none": "none"}
"""What each is called for people."""


def adjusted(p: Sequence[float], how: Correction) -> list[float]:
    """[m] the p-values, adjusted for each other; never below what they were, and those that are not finite stay out of it."""
    values = np.asarray(p, np.float64)
    known = np.flatnonzero(np.isfinite(values))
    found = values.copy()
    if how == "none" or not len(known):
        return [float(value) for value in found]
    order = known[np.argsort(values[known], kind="stable")]
    count, rank = len(order), np.arange(len(order))
    if how == "holm":
        steps = np.maximum.accumulate(values[order] * (count - rank))
    else:
        steps = np.minimum.accumulate((values[order] * count / (rank + 1))[::-1])[::-1]
    found[order] = np.minimum(steps, 1.0)
    return [float(value) for value in found]
