"""Different n-grams of all answers together, as a share of all their n-grams: ten times "I do not know" has 3 of 30 pairs, 0.1.

distinct-n (Li et al. 2016), of words. 1 where nothing is ever said twice; it falls as there are more answers, so compare models on
the same rows.

It is a property of the whole set, yet a sum over rows: a run of words that occurs c times counts 1/c at each place. That is how it
is resampled: rows are drawn with what they count in the whole set. A row drawn twice is not taken for a model that says the same
twice, which would put every interval below the score.

    metrics: [{diversity: {n: 1}}]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from sartor.metrics._answers import text
from sartor.metrics._mean import ratio
from sartor.metrics._words import ngrams
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome

__all__ = ["Options", "metric"]


class Options(Settings):
    """What is counted."""

    n: Annotated[int, Field(ge=1, le=20)] = 2
    """Words in a run."""


@dataclass(frozen=True, slots=True)
class _Diversity:
    n: int
    name: str = "diversity"
    higher_is_better: bool = True
    needs: str = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (sum of 1 / occurrences in all answers over the row's runs, number of them)"""
        runs = [ngrams(text(outcome), self.n) for outcome in outcomes]
        counts = Counter(run for own in runs for run in own)
        return np.array([(sum(1 / counts[run] for run in own), len(own)) for own in runs], np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; 0 where nothing is long enough."""
        return ratio(sums[..., 0], sums[..., 1], empty=0.0)


def metric(options: Options, root: Path) -> Metric:
    """The metric."""
    return _Diversity(options.n)
