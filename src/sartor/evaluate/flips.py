"""The rows on which two models part: fixed and broken where rows are right or wrong, the largest changes otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sartor.protocols import Metric, Outcome

SHOWN = 12
"""Rows listed in each direction; all are counted."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One row as two models answered it, with the metric of the row alone."""

    id: str
    prompt: str
    reference: str
    before: str | None
    after: str | None
    score_before: float
    score_after: float


@dataclass(frozen=True, slots=True)
class Flips:
    """Rows that got better and rows that got worse from one model to another, the largest changes first."""

    metric: str
    decided: bool
    """Whether each row is right or wrong, so that a change is a flip; otherwise every change of the score counts."""
    better: tuple[Flip, ...]
    worse: tuple[Flip, ...]
    better_count: int
    worse_count: int

    def json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self) | {
            "better": [asdict(flip) for flip in self.better],
            "worse": [asdict(flip) for flip in self.worse],
        }


def find_flips(
    metric: Metric, before: Sequence[Outcome], after: Sequence[Outcome], was: np.ndarray, now: np.ndarray
) -> Flips:
    """Rows whose own score changed. `was` and `now` [n] are the metric of each row for the two models."""
    gain = np.nan_to_num((now - was) * (1 if metric.higher_is_better else -1))
    scores = np.concatenate([was, now])

    def listed(rows: np.ndarray) -> tuple[Flip, ...]:
        return tuple(
            Flip(
                id=before[row].id,
                prompt=before[row].prompt,
                reference=before[row].reference,
                before=_answer(before[row]),
                after=_answer(after[row]),
                score_before=float(was[row]),
                score_after=float(now[row]),
            )
            for row in rows[:SHOWN]
        )

    order = np.argsort(-gain, kind="stable")
    return Flips(
        metric=metric.name,
        decided=bool(np.isin(scores, (0.0, 1.0)).all()),
        better=listed(order[gain[order] > 0]),
        worse=listed(order[::-1][gain[order[::-1]] < 0]),
        better_count=int((gain > 0).sum()),
        worse_count=int((gain < 0).sum()),
    )


def _answer(outcome: Outcome) -> str | None:
    """What the model said, for people: a label, labels, tags, a number, or its text."""
    if outcome.label is not None:
        return outcome.label
    if outcome.labels is not None:
        return ", ".join(outcome.labels) or "no label"
    if outcome.tags is not None:
        return " ".join(outcome.tags)
    return outcome.prediction if outcome.value is None else f"{outcome.value:.4g}"
