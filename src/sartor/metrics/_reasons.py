"""Metrics that give each row a score with its reasons, which a report then lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sartor.metrics._mean import ratio
from sartor.protocols import Outcome, Table

LISTED = 50
"""Reasons that a table shows; the others are counted in its note."""
LONGEST = 300
"""Characters of one."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The score of one row, and what it lost points for: each a line for the columns of the table."""

    score: float
    reasons: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Reasoned:
    """Mean over rows of a score that comes with reasons. Statistics per row: (score, 1)."""

    name: str
    judge: Callable[[Sequence[Outcome]], Sequence[Judged]]
    title: str
    columns: tuple[str, ...]
    """What stands in a reason, after the row."""
    higher_is_better: bool = True
    needs: str = "prediction"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2]"""
        return np.array([(judged.score, 1.0) for judged in self.judge(outcomes)], dtype=np.float64).reshape(-1, 2)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number where there is no row."""
        return ratio(sums[..., 0], sums[..., 1])

    def details(self, outcomes: Sequence[Outcome], confidence: float) -> tuple[Table, ...]:
        """One table: every reason with the id of its row."""
        lines = [
            (outcome.id, *map(short, reason))
            for outcome, judged in zip(outcomes, self.judge(outcomes), strict=True)
            for reason in judged.reasons
        ]
        more = len(lines) - LISTED
        note = f"and {more:,} more" if more > 0 else ""
        return (Table(self.title, ("row", *self.columns), tuple(lines[:LISTED]), note),) if lines else ()


def short(content: str) -> str:
    """On one line, and not too long."""
    line = " ".join(content.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def one_by_one(judge: Callable[[Outcome], Judged]) -> Callable[[Sequence[Outcome]], list[Judged]]:
    """Of a judgement of one row, that of many."""
    return lambda outcomes: [judge(outcome) for outcome in outcomes]
