"""How an error goes on falling with more data: a power law through what was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 3
"""Sizes without which nothing is fitted."""
STEEPEST = 2.0
"""Largest exponent; errors of trained models fall no faster (Hestness et al. 2017, section 4, find 0.07 to 0.35)."""


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """error(n) = floor + scale * (n / unit)^-exponent, with floor and scale of 0 or more (Hestness et al. 2017, equation 1)."""

    floor: float
    scale: float
    exponent: float
    unit: float

    def at(self, size: float) -> float:
        """The error with `size` rows."""
        return self.floor + self.scale * float((size / self.unit) ** -self.exponent)


def fit(sizes: NDArray[np.float64], errors: NDArray[np.float64]) -> PowerLaw:
    """The law of least squared error through [k] points. Raises ValueError for fewer than `LEAST` different sizes.

    For every exponent of a fine grid the best floor and scale are a linear problem in two unknowns, so no start is needed and
    no local minimum can be met; floor and scale below 0 are set to 0 and the other is solved again.
    """
    if len(np.unique(sizes)) < LEAST:
        raise ValueError(f"{LEAST} different sizes are needed")
    unit = float(np.max(sizes))
    best = (np.inf, PowerLaw(float(np.mean(errors)), 0.0, 1.0, unit))
    for exponent in np.geomspace(0.02, STEEPEST, 120):
        basis = (sizes / unit) ** -exponent
        for floor, scale in _solved(basis, errors):
            lost = float(((floor + scale * basis - errors) ** 2).sum())
            if lost < best[0] - 1e-15:
                best = lost, PowerLaw(floor, scale, float(exponent), unit)
    return best[1]


def _solved(basis: NDArray[np.float64], errors: NDArray[np.float64]) -> list[tuple[float, float]]:
    """(floor, scale) of 0 or more: the best inside, and the best on each border."""
    centred = basis - basis.mean()
    scale = float(centred @ errors / (centred @ centred))
    floor = float(errors.mean() - scale * basis.mean())
    borders = [(float(max(errors.mean(), 0.0)), 0.0), (0.0, max(float(basis @ errors / (basis @ basis)), 0.0))]
    return [(floor, scale), *borders] if floor >= 0 and scale >= 0 else borders
