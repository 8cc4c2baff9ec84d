"""Tasks learnt one after the other: what became of each after every stage.

R[i][j] is the score on the held-out rows of task j after stage i, for j <= i; T is the number of tasks.

    average accuracy    1/T      sum_j      R[T][j]                           (Lopez-Paz and Ranzato 2017, arXiv:1706.08840, eq. 2)
    backward transfer   1/(T-1)  sum_{j<T}  R[T][j] - R[j][j]                 (eq. 3; their eq. 4, forward, needs j > i)
    forgetting          1/(T-1)  sum_{j<T}  max_{j<=l<T} R[l][j] - R[T][j]    (Chaudhry et al. 2018, arXiv:1801.10112, eq. 2 and 3)

Where lower scores are better both differences are turned round: more backward transfer is always better, more forgetting worse. The
rows of each task are resampled by themselves, with the same resamples for all stages; intervals of the three are percentiles of that.
Cells have the intervals of any score. The maximum over stages is taken of noisy scores, so forgetting is a little too high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sartor.evaluate import intervals
from sartor.evaluate.compare import compare
from sartor.protocols import Metric, Outcome

Cell = tuple[int, int]
"""(after which stage, on which task), from 0."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One number over all tasks with its interval."""

    value: float
    low: float
    high: float

    def json(self) -> dict[str, float]:
        """One JSON object."""
        return {"value": self.value + 0.0, "low": self.low + 0.0, "high": self.high + 0.0}


def average(scores: np.ndarray) -> np.ndarray:
    """[..., T, T] -> [...] mean of the last line."""
    found: np.ndarray = scores[..., -1, :].mean(axis=-1)
    return found


def backward_transfer(scores: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """[..., T, T] -> [...] what later stages added to earlier tasks. `sign` is -1 where lower scores are better."""
    last, first = scores[..., -1, :-1], np.diagonal(scores, axis1=-2, axis2=-1)[..., :-1]
    found: np.ndarray = sign * (last - first).mean(axis=-1)
    return found


def forgetting(scores: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """[..., T, T] -> [...] what was lost since each earlier task was known best. `sign` as above; NaN above the diagonal."""
    before = np.where(np.isnan(scores), -np.inf, sign * scores)[..., :-1, :-1].max(axis=-2)
    found: np.ndarray = (before - sign * scores[..., -1, :-1]).mean(axis=-1)
    return found


def told(
    outcomes: Mapping[Cell, Sequence[Outcome]],
    tasks: Sequence[str],
    metric: Metric,
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The matrix and the three numbers as a JSON object; `outcomes` holds every cell with j <= i."""
    count = len(tasks)
    sign = 1.0 if metric.higher_is_better else -1.0
    values = np.full((count, count), np.nan)
    cells: list[list[dict[str, float] | None]] = [[None] * count for _ in tasks]
    rows, shares = [], []
    resampled: dict[Cell, np.ndarray] = {}
    for task in range(count):
        given = {str(stage): outcomes[stage, task] for stage in range(task, count)}
        comparison = compare(given, [metric], confidence=confidence, resamples=resamples, seed=seed + task)
        rows.append(comparison.rows)
        shares.append(comparison.is_share(metric.name))
        for stage in range(task, count):
            score = comparison.score(metric.name, str(stage))
            if score is not None:
                values[stage, task] = score.value
                cells[stage][task] = {"value": score.value, "low": score.low, "high": score.high}
        chunks = list(intervals.weights(comparison.rows, resamples, seed + task))
        for stage in range(task, count):
            stats = metric.stats(outcomes[stage, task])
            resampled[stage, task] = np.concatenate([metric.combine(chunk @ stats) for chunk in chunks])
    draws = np.full((resamples, count, count), np.nan)
    for (stage, task), found in resampled.items():
        draws[:, stage, task] = found
    drawn = [average(draws), backward_transfer(draws, sign), forgetting(draws, sign)]
    point = [average(values), backward_transfer(values, sign), forgetting(values, sign)]
    edge = (1 - confidence) / 2
    names = ("average", "backward_transfer", "forgetting")
    summaries = {
        name: Summary(float(value), *(float(side) for side in np.quantile(some, (edge, 1 - edge)))).json()
        for name, value, some in zip(names, point, drawn, strict=True)
    }
    return {
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "share": all(shares),
        "confidence": confidence,
        "tasks": [{"name": name, "rows": number} for name, number in zip(tasks, rows, strict=True)],
        "matrix": cells,
        **summaries,
    }
