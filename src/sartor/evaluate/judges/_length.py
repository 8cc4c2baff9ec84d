"""How often a model would win if its answers were as long as those of the other one.

    P(win) = sigmoid(theta + phi tanh((length - length of the other) / sd));   length-controlled win rate = sigmoid(theta)

The logistic model of AlpacaEval 2 (Dubois, Galambosi, Liang and Hashimoto 2024, arXiv 2404.04475, section 3), fitted by Newton's
method to wins 1, ties 1/2, losses 0. Departures: the difficulty of each instruction is left out, because it takes judgements of many
models; a small quadratic penalty on phi keeps it finite where length alone decides every row. The differences in length are shared
out to `BINS` places between -1 and 1, so that the fit is a function of sums over rows and every resample has a fit of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 41
PENALTY = 0.05
"""On phi squared, in rows."""
STEPS = 40
FAR = 12.0
"""Bound of theta and phi: sigmoid(12) is 0.999994."""
ONE_SIDED = 0.95
"""Share of pairs in which the same model's answer is longer, above which length and model cannot be told apart."""
WITHHELD = "Where nearly always the same model's answer is longer, no win rate for equal length is given."
_PLACES = np.linspace(-1.0, 1.0, BINS)


def units(wins: Floats, apart: Floats) -> Floats:
    """[n, 2 BINS] of wins [n] (NaN: not judged) and differences in length [n], in characters; all 0 where nearly always the
    same model's answer is longer."""
    told = np.isfinite(wins)
    if told.any() and max((apart[told] > 0).mean(), (apart[told] < 0).mean()) > ONE_SIDED:
        return np.zeros((len(wins), 2 * BINS))
    spread = float(apart[told].std()) if told.any() else 0.0
    x = np.tanh(apart / spread) if spread > 0 else np.zeros(len(apart))
    place = (x + 1) / 2 * (BINS - 1)
    left = np.clip(np.floor(place).astype(np.int64), 0, BINS - 2)
    right = place - left
    counts, rows = np.zeros((len(wins), BINS)), np.arange(len(wins))
    counts[rows, left], counts[rows, left + 1] = 1 - right, right
    counts[~told] = 0.0
    return np.concatenate([counts, counts * np.where(told, wins, 0.0)[:, None]], axis=1)


def rate(sums: Floats) -> Floats:
    """[..., 2 BINS] -> [...] the length-controlled win rate; NaN without a row."""
    theta, _ = fit(sums)
    found: Floats = np.where(sums[..., :BINS].sum(axis=-1) > 0, 1 / (1 + np.exp(-theta)), np.nan)
    return found


def fit(sums: Floats) -> tuple[Floats, Floats]:
    """[..., 2 BINS] -> ([...] theta, [...] phi)."""
    flat = sums.reshape(-1, 2 * BINS)
    rows, won = flat[:, :BINS], flat[:, BINS:]
    theta, phi = np.zeros(len(flat)), np.zeros(len(flat))
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(theta[:, None] + phi[:, None] * _PLACES)))
        rest, curve = won - rows * p, rows * p * (1 - p)
        slope, slope_x = rest.sum(axis=1), rest @ _PLACES - PENALTY * phi
        a, b, c = curve.sum(axis=1) + 1e-9, curve @ _PLACES, curve @ _PLACES**2 + PENALTY
        whole = a * c - b * b
        # A step of at most 1 keeps Newton's method from leaping over the optimum where rows are almost decided.
        theta = np.clip(theta + np.clip((c * slope - b * slope_x) / whole, -1, 1), -FAR, FAR)
        phi = np.clip(phi + np.clip((a * slope_x - b * slope) / whole, -1, 1), -FAR, FAR)
    return theta.reshape(sums.shape[:-1]), phi.reshape(sums.shape[:-1])
