"""Matthews' correlation of given and right labels: 1 is perfect, 0 no better than chance, also where labels are uneven.

For several labels the form of Gorodkin 2004, R_K; an answer that is no label counts as one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._answers import choice, right
from sartor.metrics._classes import known
from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


class _Mcc:
    name = "mcc"
    higher_is_better = True
    needs = "label"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2 + 2 (C + 1)]: 1, right, and for each label whether it is right, and whether it was given. Raises InputError E103."""
        classes = known(self.name, outcomes)
        place = {name: index for index, name in enumerate(classes)}
        width = len(classes) + 1
        lines = np.zeros((len(outcomes), 2 + 2 * width))
        for line, outcome in zip(lines, outcomes, strict=True):
            truth, guess = place[right(outcome)], place.get(choice(outcome), width - 1)
            line[0], line[1] = 1, truth == guess
            line[2 + truth] = line[2 + width + guess] = 1
        return lines

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2 + 2 (C + 1)] -> [...]: (c s - t p) / sqrt((s^2 - p p) (s^2 - t t)); 0 where one of both is always the same,
        1 where both are and agree."""
        width = (sums.shape[-1] - 2) // 2
        total, hits = sums[..., 0], sums[..., 1]
        truth, guess = sums[..., 2 : 2 + width], sums[..., 2 + width :]
        above = hits * total - (truth * guess).sum(axis=-1)
        below = (total**2 - (guess**2).sum(axis=-1)) * (total**2 - (truth**2).sum(axis=-1))
        value = ratio(above, np.sqrt(np.maximum(below, 0)), empty=0.0)
        return np.asarray(np.where((below <= 0) & (hits == total) & (total > 0), 1.0, value))


METRIC = _Mcc()
