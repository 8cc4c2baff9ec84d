"""Pairs of answers of which one is said to be better, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from sartor.metrics._mean import ratio
from sartor.protocols import Outcome


def totals(outcome: Outcome) -> tuple[float, ...]:
    """What the model makes of each answer as a whole."""
    return tuple(outcome.scores)


def per_token(outcome: Outcome) -> tuple[float, ...]:
    """The same over the answer's length, so that length alone counts nothing."""
    return tuple(score / max(1, length) for score, length in zip(outcome.scores, outcome.lengths, strict=True))


def right(apart: float) -> float:
    """1 where the better answer is found better; 1/2 where both are found equal."""
    return 0.5 if apart == 0 else float(apart > 0)


def apart(apart: float) -> float:
    """By how much."""
    return apart


@dataclass(frozen=True, slots=True)
class OverPairs:
    """The mean over rows of the mean over each row's pairs. Statistics per row: (mean, 1), (0, 0) without a pair."""

    name: str
    scores: Callable[[Outcome], Sequence[float]]
    judge: Callable[[float], float]
    verdicts: bool = False
    """Whether a row with one answer and a verdict counts too: its score, with the verdict's sign."""
    higher_is_better: bool = True
    needs: str = "answers"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2]"""
        return np.array([self._row(outcome) for outcome in outcomes], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number where there is no pair."""
        return ratio(sums[..., 0], sums[..., 1])

    def _row(self, outcome: Outcome) -> tuple[float, float]:
        found = list(zip(outcome.ratings, self.scores(outcome), strict=True))
        if self.verdicts and len(found) == 1:
            ((liked, score),) = found
            return (score if liked > 0 else -score), 1.0
        judged = [self.judge(s - t) for (a, s), (b, t) in product(found, found) if a > b]
        return (sum(judged) / len(judged), 1.0) if judged else (0.0, 0.0)
