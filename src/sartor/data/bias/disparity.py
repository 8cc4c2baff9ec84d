"""Differences between rows about one group and rows about the others, tested together.

For every attribute and group: rows whose prompt names that group alone, against those that name other groups of the attribute
alone. Compared are the share of each label, the share of refusals, the sentiment and the length of answers. Copies of a row
count once. All comparisons of a data set are judged together by Benjamini and Hochberg (1995), so that of data without any
difference at most a share `level` has a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.bias.mentions import Attribute, Finder
from sartor.data.bias.outcomes import refuses, sentiment
from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Prompt, Text
from sartor.data.similarity import WORD
from sartor.data.wording import answered, asked

LEAST = 20
"""Rows on either side below which nothing is compared."""
LEAST_CASES = 5
"""Rows with a label, or refused, on both sides together, and as many without."""
SHARE = 0.05
"""Differences of shares below this are not told, however sure they are."""
EFFECT = 0.2
"""The same for differences of means, in standard deviations (Cohen's d)."""
LABELS = 20
"""Labels looked at, the most frequent ones."""
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of n rows."""

    attributes: tuple[Attribute, ...]
    group: NDArray[np.int16]
    """[attributes, n] the one group that a row names, -1 for none or several."""
    label: NDArray[np.int32]
    """[n] -1 for none."""
    labels: tuple[str, ...]
    refused: NDArray[np.bool_]
    sentiment: NDArray[np.float64]
    length: NDArray[np.float64]
    """[n] log(1 + words of the answer)"""
    unit: NDArray[np.int64]
    """[n] rows with the same number are copies."""
    rows: NDArray[np.int64]
    """[n] indices in the data set."""


@dataclass(frozen=True, slots=True)
class Disparity:
    """One comparison."""

    attribute: str
    group: str
    others: str
    outcome: str
    """label, refusal, sentiment or length."""
    label: str | None
    here: float
    """Share or mean of the rows about the group; for length the geometric mean of 1 + words."""
    there: float
    count: int
    count_others: int
    difference: float
    """here - there; for length the ratio here / there."""
    low: float
    high: float
    effect: float
    """Difference of shares, or Cohen's d."""
    p: float
    q: float
    """p after Benjamini and Hochberg."""
    flagged: bool
    example: int
    """Index of a row about the group, one that shows it where there is one."""

    @property
    def key(self) -> tuple[str, str, str, str | None]:
        """What is compared."""
        return self.attribute, self.group, self.outcome, self.label

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def gather(
    dataset: Dataset,
    rows: NDArray[np.integer[Any]],
    unit: NDArray[np.integer[Any]],
    finder: Finder,
    seen: Callable[[int], None],
) -> Table:
    """Look at rows `rows` of the data set; `unit` [all rows] numbers copies alike. `seen` is told how many are done."""
    count = len(rows)
    group = np.full((len(finder.attributes), count), -1, np.int16)
    refused, feeling, length = np.zeros(count, np.bool_), np.zeros(count), np.zeros(count)
    for place, row in enumerate(dataset.those(rows)):
        for attribute, named in enumerate(finder.mentions(asked(row))):
            if len(named) == 1:
                (group[attribute, place],) = named
        if place % 5000 == 0:
            seen(place)
        if (group[:, place] < 0).all():
            # No comparison asks what became of it.
            continue
        labelled = isinstance(row, Example) and row.label is not None
        unanswered = isinstance(row, Text | Prompt)
        said = asked(row) if labelled or unanswered else answered(row)
        feeling[place] = sentiment(said)
        if not labelled and not unanswered:
            refused[place], length[place] = refuses(said), np.log1p(len(WORD.findall(said)))
    seen(count)
    return Table(
        tuple(finder.attributes),
        group,
        dataset.index.label[rows],
        dataset.labels,
        refused,
        feeling,
        length,
        unit[rows].astype(np.int64),
        rows.astype(np.int64),
    )


def disparities(table: Table, level: float = LEVEL, weight: NDArray[np.floating[Any]] | None = None) -> list[Disparity]:
    """Every comparison that has rows enough, those that are flagged first and the largest before.

    With `weight` [n], how much each row counts: shares and means are weighted, and copies count by their weights; intervals and
    p are those of the rows as they are.
    """
    found = [each for number in range(len(table.attributes)) for each in _compared(table, number, weight)]
    if not found:
        return []
    from scipy.stats import false_discovery_control

    q = false_discovery_control([each.p for each in found], method="bh")
    judged = []
    for each, value in zip(found, q.tolist(), strict=True):
        large = abs(each.effect) >= (SHARE if each.outcome in ("label", "refusal") else EFFECT)
        judged.append(Disparity(**{**asdict(each), "q": value, "flagged": bool(value <= level and large)}))
    return sorted(judged, key=lambda each: (not each.flagged, each.q, -abs(each.effect)))


def _compared(table: Table, number: int, weight: NDArray[np.floating[Any]] | None) -> Iterator[Disparity]:
    attribute, group = table.attributes[number], table.group[number]
    names = range(1 if len(attribute.groups) == 2 else len(attribute.groups))
    for name in names:
        here, there = (_distinct(table, mask, weight) for mask in (group == name, (group >= 0) & (group != name)))
        if min(len(here), len(there)) < LEAST:
            continue
        others = attribute.groups[1] if len(attribute.groups) == 2 else "other groups"
        about = (attribute.name, attribute.groups[name], others)
        for outcome, label, values in _outcomes(table):
            binary = values.dtype == np.bool_
            cases = int(values[here].sum() + values[there].sum())
            if binary and not LEAST_CASES <= cases <= len(here) + len(there) - LEAST_CASES:
                continue
            if not binary and np.ptp(values[np.concatenate([here, there])]) == 0:
                continue
            yield (_shares if binary else _means)(table, about, outcome, label, values, here, there, weight)


def _distinct(table: Table, mask: NDArray[np.bool_], weight: NDArray[np.floating[Any]] | None) -> NDArray[np.int64]:
    """The places of rows, one of several copies; all of them where they count by weights."""
    places = np.flatnonzero(mask)
    if weight is not None:
        return places
    _, first = np.unique(table.unit[places], return_index=True)
    return places[np.sort(first)]


def _outcomes(table: Table) -> Iterator[tuple[str, str | None, NDArray[Any]]]:
    counts = np.bincount(table.label[table.label >= 0], minlength=len(table.labels))
    chosen = [code for code in np.argsort(-counts, kind="stable")[:LABELS].tolist() if counts[code]]
    # Of two labels, one is where the other is not.
    for code in chosen[:1] if len(chosen) == 2 else chosen:
        yield "label", table.labels[code], table.label == code
    yield "refusal", None, table.refused
    yield "sentiment", None, table.sentiment
    yield "length", None, table.length


def _shares(
    table: Table, about: tuple[str, str, str], outcome: str, label: str | None, values: NDArray[Any],
    here: NDArray[np.int64], there: NDArray[np.int64], weight: NDArray[np.floating[Any]] | None,
) -> Disparity:  # fmt: skip
    """Difference of two shares: interval of Newcombe (1998, method 10), test of Fisher."""
    from scipy.stats import binomtest, fisher_exact

    a, b, n, m = int(values[here].sum()), int(values[there].sum()), len(here), len(there)
    one, other = (_mean(values[side], side, weight) for side in (here, there))
    bounds = [binomtest(k, size).proportion_ci(0.95, method="wilson") for k, size in ((a, n), (b, m))]
    plain, reach = a / n - b / m, [(a / n, bounds[0]), (b / m, bounds[1])]
    low = plain - np.hypot(reach[0][0] - reach[0][1].low, reach[1][1].high - reach[1][0])
    high = plain + np.hypot(reach[0][1].high - reach[0][0], reach[1][0] - reach[1][1].low)
    p = float(fisher_exact([[a, n - a], [b, m - b]]).pvalue)
    shown = here[values[here] == (a / n > b / m)]
    return _disparity(
        table, about, outcome, label, (one, other), (n, m), one - other, (low, high), one - other, p, shown, here
    )


def _means(
    table: Table, about: tuple[str, str, str], outcome: str, label: str | None, values: NDArray[Any],
    here: NDArray[np.int64], there: NDArray[np.int64], weight: NDArray[np.floating[Any]] | None,
) -> Disparity:  # fmt: skip
    """Difference of two means: interval and test of Welch (1947). For length a ratio of geometric means."""
    from scipy.stats import ttest_ind

    first, second = values[here], values[there]
    one, other = (_mean(values[side], side, weight) for side in (here, there))
    found = ttest_ind(first, second, equal_var=False)
    spread = np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2)
    effect = float((one - other) / spread) if spread > 0 else 0.0
    bounds = found.confidence_interval(0.95)
    difference, low, high = one - other, float(bounds.low), float(bounds.high)
    p = float(found.pvalue) if np.isfinite(found.pvalue) else 1.0
    shown = here[np.argsort(-first if one > other else first, kind="stable")[:1]]
    if outcome == "length":
        difference, low, high, one, other = (float(np.exp(value)) for value in (difference, low, high, one, other))
    return _disparity(
        table,
        about,
        outcome,
        label,
        (one, other),
        (len(here), len(there)),
        difference,
        (low, high),
        effect,
        p,
        shown,
        here,
    )


def _mean(values: NDArray[Any], side: NDArray[np.int64], weight: NDArray[np.floating[Any]] | None) -> float:
    return float(np.average(values, weights=None if weight is None else weight[side]))


def _disparity(
    table: Table, about: tuple[str, str, str], outcome: str, label: str | None, sides: tuple[float, float],
    counts: tuple[int, int], difference: float, bounds: tuple[float, float], effect: float, p: float,
    shown: NDArray[np.int64], here: NDArray[np.int64],
) -> Disparity:  # fmt: skip
    example = int(table.rows[(shown if len(shown) else here)[0]])
    low, high = (float(bound) for bound in bounds)
    return Disparity(*about, outcome, label, *sides, *counts, difference, low, high, effect, p, 1.0, False, example)
