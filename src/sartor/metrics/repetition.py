"""Share of an answer that says again what it said before: of "to be to be to be" 3 of 5 pairs of words are not new, 0.6.

Mean over rows of 1 - different n-grams / n-grams (seq-rep-n, Welleck et al. 2020, equation 7), of words. An answer that is too
short for an n-gram repeats nothing, 0. Lists and tables repeat rightfully: compare with another model, not with 0.

    metrics: [{repetition: {n: 3}}]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from sartor.metrics._answers import text
from sartor.metrics._mean import Mean
from sartor.metrics._words import ngrams
from sartor.options import Options as Settings
from sartor.protocols import Metric, Outcome

__all__ = ["Options", "metric"]


class Options(Settings):
    """What is counted."""

    n: Annotated[int, Field(ge=1, le=20)] = 4
    """Words in a run."""


def metric(options: Options, root: Path) -> Metric:
    """The metric."""

    def score(outcome: Outcome) -> float:
        runs = ngrams(text(outcome), options.n)
        return 1 - len(set(runs)) / len(runs) if runs else 0.0

    return Mean("repetition", score, higher_is_better=False)
