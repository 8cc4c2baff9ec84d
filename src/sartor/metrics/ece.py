"""By how much the probability of the chosen label misses how often it is right: 90 % sure and right in 80 % of the rows is 0.1.

Expected calibration error (Naeini et al. 2015; Guo et al. 2017, equation 3) over 15 bins of equal width; where a row may have
several labels, over the decision on each. A text without scores counts as sure of itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sartor.metrics._scores import sureness
from sartor.options import NoOptions as Options
from sartor.protocols import Chart, Outcome

__all__ = ["METRIC", "Options"]

BINS = 15


class _Ece:
    name = "ece"
    higher_is_better = False
    needs = "probabilities"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, bins + 1]: the sum of (confidence - right) in each bin, then the number of decisions"""
        lines = np.zeros((len(outcomes), BINS + 1))
        for line, decisions in zip(lines, sureness(outcomes), strict=True):
            for confidence, right in decisions:
                line[min(int(np.ceil(confidence * BINS)) - 1, BINS - 1) if confidence > 0 else 0] += confidence - right
                line[BINS] += 1
        return lines

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., bins + 1] -> [...]: sum over bins of |confidence - right| / decisions; not a number where there is none."""
        total = sums[..., BINS]
        gaps = np.abs(sums[..., :BINS]).sum(axis=-1)
        return np.asarray(np.divide(gaps, total, out=np.full(np.shape(total), np.nan), where=total > 0))

    def charts(self, outcomes: Mapping[str, Sequence[Outcome]]) -> tuple[Chart, ...]:
        """Reliability: for each bin with decisions, how sure the model was and how often it was right."""
        series = {model: _reliability(rows) for model, rows in outcomes.items()}
        return (
            Chart(
                "How sure and how often right", "probability of what was chosen", "share right", series, diagonal=True
            ),
        )


def _reliability(outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
    decisions = np.array([pair for row in sureness(outcomes) for pair in row], np.float64).reshape(-1, 2)
    place = np.clip(np.ceil(decisions[:, 0] * BINS).astype(int) - 1, 0, BINS - 1)
    means = [decisions[place == number].mean(axis=0) for number in np.unique(place)]
    return [(float(confidence), float(right)) for confidence, right in means]


METRIC = _Ece()
