"""Strengths of several models from comparisons of two at a time, on the scale of Elo.

    P(i wins against j) = p_i / (p_i + p_j);   rating = 400 log10 p, with mean 1000

Bradley and Terry 1952, by maximum likelihood: the iteration of Hunter 2004 (Annals of Statistics 32, equation 3). A tie is half a win
for both. `PRIOR` of a tie is added to every pair that met, so that a model which won or lost everything has a rating too; with ten
comparisons it moves a rating by a few points. Intervals are percentiles over resamples of the rows, all comparisons of a row
together, because one prompt may suit one model in all of them.

B: resamples, n: rows, k: models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.evaluate.intervals import weights

Floats = NDArray[np.float64]
PRIOR = 0.1
MIDDLE = 1000.0
STEPS = 2000
CLOSE = 1e-8
"""The iteration ends where no log-strength moves more."""


@dataclass(frozen=True, slots=True)
class Rating:
    """How strong one model is."""

    model: str
    rating: float
    low: float
    high: float
    wins: float
    """A tie is half a win."""
    comparisons: int

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return asdict(self)


def ratings(
    models: Sequence[str], rows: Floats, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[Rating]:
    """The best first. `rows` is [n, k, k]: what model i won against j on a row (1, 1/2, 0), NaN where they did not meet.

    Raises ValueError where not every model can be compared with every other through others.
    """
    met = np.isfinite(rows)
    won = np.where(met, rows, 0.0)
    if not _connected(np.asarray(met.any(axis=0))):
        raise ValueError("some models never met, not even through others")
    total, each = won.sum(axis=0), won.reshape(len(won), -1)
    size = len(models)
    drawn = np.concatenate([chunk @ each for chunk in weights(len(rows), resamples, seed)]).reshape(-1, size, size)
    values, resampled = elo(strengths(total)), elo(strengths(drawn))
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    found = [
        Rating(
            model,
            float(values[place]),
            float(low[place]),
            float(high[place]),
            float(total[place].sum()),
            int(met[:, place].sum()),
        )
        for place, model in enumerate(models)
    ]
    return sorted(found, key=lambda each: -each.rating)


def strengths(won: Floats) -> Floats:
    """[..., k, k] wins of i against j -> [..., k] log p, with mean 0."""
    meetings = won + np.swapaxes(won, -1, -2)
    # Which pairs meet is that of all resamples together, so that one who is left out by chance stays comparable.
    prior = PRIOR * (meetings.reshape(-1, *meetings.shape[-2:]).sum(axis=0) > 0)
    meetings = meetings + prior
    wins = (won + prior / 2).sum(axis=-1)
    log_p = np.zeros(wins.shape)
    for _ in range(STEPS):
        p = np.exp(log_p)
        new = np.log(wins / (meetings / (p[..., :, None] + p[..., None, :])).sum(axis=-1))
        new -= new.mean(axis=-1, keepdims=True)
        moved = float(np.abs(new - log_p).max())
        log_p = new
        if moved < CLOSE:
            break
    return log_p


def elo(log_p: Floats) -> Floats:
    """[..., k] log-strengths -> [..., k] ratings: 400 points are odds of 10 to 1."""
    found: Floats = MIDDLE + 400 / np.log(10) * log_p
    return found


def _connected(met: NDArray[np.bool_]) -> bool:
    """Whether [k, k] links every model with every other."""
    reached = np.zeros(len(met), np.bool_)
    reached[0] = True
    for _ in range(len(met)):
        reached |= (met | met.T)[reached].any(axis=0)
    return bool(reached.all())
