"""How far annotators agree beyond chance, with bootstrap intervals. R: raters, N: rows, K: labels, B: resamples.

All coefficients are functions of sums over rows, so one matrix of resampled row counts serves them all. Intervals are
percentiles of B resamples of rows, as Zapf, Castell, Morawietz and Karch (2016, BMC Medical Research Methodology 16:93)
recommend for these coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Units = Any
"""[N, k] statistics of each row, an array or a sparse one: with 77 labels a table of two raters has 5,929 cells."""
Ratings = NDArray[np.int64]
MISSING = -1
RESAMPLES = 2_000
CELLS = 4_000_000
"""Numbers held at once."""


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One number with its interval; None where it is not defined, as kappa is where only one label was ever used."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    rows: int
    """Rows it is computed from."""
    between: tuple[str, ...]
    """The annotators."""

    def json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "name": self.name,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "rows": self.rows,
            "between": list(self.between),
        }


def table(answers: Mapping[str, Mapping[str, str]], labels: Sequence[str]) -> tuple[tuple[str, ...], Ratings]:
    """(annotators, [N, R] label numbers, `MISSING` where somebody did not answer) of annotator -> row -> label."""
    names = tuple(sorted(answers))
    rows = sorted({row for given in answers.values() for row in given})
    place = {label: number for number, label in enumerate(labels)}
    ratings = np.full((len(rows), len(names)), MISSING, np.int64)
    for column, name in enumerate(names):
        for line, row in enumerate(rows):
            if row in answers[name]:
                ratings[line, column] = place[answers[name][row]]
    return names, ratings


def agreement(
    names: Sequence[str],
    ratings: Ratings,
    labels: int,
    *,
    ordinal: bool,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Coefficient]:
    """Every coefficient that these ratings [N, R] allow.

    Percent and alpha for all; Cohen's kappa for each pair of annotators with rows in common; Fleiss' kappa where there are
    three or more, on the rows that the same number of annotators answered.
    """

    def measured(name: str, who: Sequence[str], units: Units, combine: Callable[[Floats], Floats]) -> Coefficient:
        return coefficient(name, who, units, combine, resamples=resamples, confidence=confidence, seed=seed)

    counts = _counts(ratings, labels)
    paired = counts[counts.sum(axis=1) >= 2]
    found = [measured("percent", names, percent_units(paired), percent)]
    for one, other in combinations(range(len(names)), 2):
        both = ratings[(ratings[:, [one, other]] != MISSING).all(axis=1)][:, [one, other]]
        if len(both):
            units = confusion_units(both, labels)
            found.append(measured("cohen_kappa", (names[one], names[other]), units, cohen_kappa))
    raters = counts.sum(axis=1)
    if len(names) >= 3 and (raters >= 3).any():
        usual = int(np.bincount(raters[raters >= 3].astype(np.int64)).argmax())
        found.append(measured("fleiss_kappa", names, fleiss_units(counts[raters == usual]), fleiss_kappa))
    units = coincidence_units(ratings[counts.sum(axis=1) >= 2], labels)
    found.append(measured("krippendorff_alpha_nominal", names, units, lambda sums: alpha(sums, nominal)))
    if ordinal:
        found.append(measured("krippendorff_alpha_ordinal", names, units, lambda sums: alpha(sums, ordinal_distance)))
    return found


def coefficient(
    name: str,
    who: Sequence[str],
    units: Units,
    combine: Callable[[Floats], Floats],
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Coefficient:
    """A function of sums over rows of units [N, k], with its interval."""
    rows = units.shape[0]
    value = float(combine(np.asarray(units.sum(axis=0))[None])[0]) if rows else math.nan
    low, high = _interval(units, combine, resamples, confidence, seed)
    bounds = [None if math.isnan(number) else number for number in (value, low, high)]
    return Coefficient(name, bounds[0], bounds[1], bounds[2], rows, tuple(who))


def percent_units(counts: Floats) -> Floats:
    """[N, 2] of label counts [N, K]: each row's share of pairs of raters that agree, and 1."""
    raters = counts.sum(axis=1)
    agree = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    return np.stack([agree, np.ones(len(counts))], axis=1)


def percent(sums: Floats) -> Floats:
    """[...] the mean share of agreeing pairs: P-bar of Fleiss (1971, equation 3)."""
    return _over(sums[..., 0], sums[..., 1])


def confusion_units(ratings: Ratings, labels: int) -> csr_array:
    """[N, K*K] of ratings [N, 2] without gaps: which cell of the table of two raters the row falls in."""
    from scipy.sparse import csr_array

    rows = np.arange(len(ratings))
    cells = ratings[:, 0] * labels + ratings[:, 1]
    return csr_array((np.ones(len(ratings)), (rows, cells)), shape=(len(ratings), labels * labels))


def cohen_kappa(sums: Floats) -> Floats:
    """[...] kappa = (p_o - p_e) / (1 - p_e) of tables [..., K*K]; p_e from both raters' own shares (Cohen 1960)."""
    joint = _square(sums)
    joint = _over(joint, joint.sum(axis=(-1, -2))[..., None, None])
    observed = joint.trace(axis1=-2, axis2=-1)
    expected = (joint.sum(axis=-1) * joint.sum(axis=-2)).sum(axis=-1)
    return _over(observed - expected, 1 - expected)


def weighted_kappa(sums: Floats) -> Floats:
    """[...] kappa of labels in order, 1 - sum w o / sum w e with w the squared distance of two labels (Cohen 1968)."""
    joint = _square(sums)
    joint = _over(joint, joint.sum(axis=(-1, -2))[..., None, None])
    places = np.arange(joint.shape[-1])
    apart = (places[:, None] - places[None, :]) ** 2.0
    by_chance = joint.sum(axis=-1)[..., :, None] * joint.sum(axis=-2)[..., None, :]
    return 1 - _over((joint * apart).sum(axis=(-1, -2)), (by_chance * apart).sum(axis=(-1, -2)))


def correlation_units(one: Floats, other: Floats) -> Floats:
    """[N, 6] of two numbers for each row."""
    return np.stack([np.ones(len(one)), one, other, one * one, other * other, one * other], axis=1)


def correlation(sums: Floats) -> Floats:
    """[...] Pearson's r of sums of `correlation_units`; of ranks it is Spearman's."""
    rows = sums[..., 0]
    one, other, one_2, other_2, both = (_over(sums[..., place], rows) for place in range(1, 6))
    spread = np.maximum(one_2 - one**2, 0) * np.maximum(other_2 - other**2, 0)
    return _over(both - one * other, np.sqrt(spread))


def fleiss_units(counts: Floats) -> Floats:
    """[N, 1 + K] of label counts [N, K] with the same number n of raters: P_i, and the share of raters for each label."""
    raters = counts.sum(axis=1, keepdims=True)
    agree = (counts * (counts - 1)).sum(axis=1, keepdims=True) / (raters * (raters - 1))
    return np.concatenate([agree, counts / raters], axis=1)


def fleiss_kappa(sums: Floats) -> Floats:
    """[...] kappa = (P-bar - P_e) / (1 - P_e), P_e = sum of p_j squared over labels (Fleiss 1971, equations 1 to 7)."""
    rows = sums[..., 1:].sum(axis=-1)
    observed = _over(sums[..., 0], rows)
    expected = (_over(sums[..., 1:], rows[..., None]) ** 2).sum(axis=-1)
    return _over(observed - expected, 1 - expected)


def coincidence_units(ratings: Ratings, labels: int) -> csr_array:
    """[N, K*K] each row's part of the coincidence matrix: ordered pairs of its m ratings, each 1 / (m - 1).

    Of ratings [N, R] with at least two in every row.
    """
    from scipy.sparse import csr_array

    raters = (ratings != MISSING).sum(axis=1)
    rows, cells, parts = [], [], []
    for one, other in permutations(range(ratings.shape[1]), 2):
        both = np.flatnonzero((ratings[:, one] != MISSING) & (ratings[:, other] != MISSING))
        rows.append(both)
        cells.append(ratings[both, one] * labels + ratings[both, other])
        parts.append(1 / (raters[both] - 1))
    where = (np.concatenate(rows), np.concatenate(cells)) if rows else (np.zeros(0, int), np.zeros(0, int))
    content = np.concatenate(parts) if parts else np.zeros(0)
    return csr_array((content, where), shape=(len(ratings), labels * labels))


def alpha(sums: Floats, distance: Callable[[Floats], Floats]) -> Floats:
    """[...] alpha = 1 - (n - 1) * sum o_ck d_ck / sum n_c n_k d_ck of coincidence matrices [..., K*K].

    Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C; missing ratings are allowed.
    """
    observed = _square(sums)
    totals = observed.sum(axis=-1)
    apart = distance(totals)
    expected = (totals[..., :, None] * totals[..., None, :] * apart).sum(axis=(-1, -2))
    return 1 - _over((totals.sum(axis=-1) - 1) * (observed * apart).sum(axis=(-1, -2)), expected)


def nominal(totals: Floats) -> Floats:
    """[..., K, K] 1 where labels differ."""
    size = totals.shape[-1]
    return np.broadcast_to(1.0 - np.eye(size), (*totals.shape, size))


def ordinal_distance(totals: Floats) -> Floats:
    """[..., K, K] squared number of ratings from the middle of one label to the middle of the other, labels in order.

    (sum of n_g from c to k - (n_c + n_k) / 2) squared; Krippendorff (2011), section E.
    """
    middle = np.cumsum(totals, axis=-1) - totals / 2
    apart: Floats = (middle[..., :, None] - middle[..., None, :]) ** 2
    return apart


def resampled(units: Units, resamples: int, seed: int) -> Iterator[Floats]:
    """Chunks [b, k] of the [B, k] sums over rows drawn with replacement from units [N, k]."""
    from scipy.sparse import csr_array

    rows, width = units.shape
    sparse = csr_array(units)
    random = np.random.default_rng(seed)
    chunk = max(1, CELLS // max(rows, width))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = random.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        weights = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)
        yield np.asarray((sparse.T @ weights.T).T)


def _interval(
    units: Units, combine: Callable[[Floats], Floats], resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    if units.shape[0] < 2:
        return math.nan, math.nan
    values = np.concatenate([combine(sums) for sums in resampled(units, resamples, seed)])
    values = values[np.isfinite(values)]
    if not values.size:
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _counts(ratings: Ratings, labels: int) -> Floats:
    """[N, K] how many raters gave each label."""
    counts = np.zeros((len(ratings), labels))
    rows, raters = np.nonzero(ratings != MISSING)
    np.add.at(counts, (rows, ratings[rows, raters]), 1)
    return counts


def _square(flat: Floats) -> Floats:
    size = math.isqrt(flat.shape[-1])
    return flat.reshape(*flat.shape[:-1], size, size)


def _over(top: Floats, bottom: Floats) -> Floats:
    """The quotient; nan where the bottom is zero."""
    shape = np.broadcast_shapes(np.shape(top), np.shape(bottom))
    quotient: Floats = np.divide(top, bottom, out=np.full(shape, np.nan), where=np.abs(bottom) > 1e-12)
    return quotient
