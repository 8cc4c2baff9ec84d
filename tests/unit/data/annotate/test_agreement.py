"""Coefficients against scikit-learn and against the worked examples of those who proposed them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import cohen_kappa_score

from sartor.data.annotate.agreement import (
    MISSING,
    agreement,
    coefficient,
    confusion_units,
    correlation,
    correlation_units,
    table,
    weighted_kappa,
)

FLEISS_1971 = """
0 0 0 6 0, 0 3 0 0 3, 0 1 4 0 1, 0 0 0 0 6, 0 3 0 3 0, 2 0 4 0 0, 0 0 4 0 2, 2 0 3 1 0, 2 0 0 4 0, 0 0 0 0 6,
1 0 0 5 0, 1 1 0 4 0, 0 3 3 0 0, 1 0 0 5 0, 0 2 0 3 1, 0 0 5 0 1, 3 0 0 1 2, 5 1 0 0 0, 0 2 0 4 0, 1 0 2 0 3,
0 0 0 0 6, 0 1 0 5 0, 0 2 0 1 3, 2 0 0 4 0, 1 0 0 4 1, 0 5 0 1 0, 4 0 0 0 2, 0 2 0 4 0, 1 0 5 0 0, 0 0 0 0 6
"""
"""Thirty patients, six psychiatrists, five diagnoses; kappa is 0.430 there."""

KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]
"""Four observers, twelve units, 0 is missing; section C of Computing Krippendorff's Alpha-Reliability (2011)."""


def of(ratings: np.ndarray, labels: int, **options) -> dict[str, list]:
    found: dict[str, list] = {}
    names = [f"r{number}" for number in range(ratings.shape[1])]
    for one in agreement(names, ratings, labels, **{"ordinal": True, "resamples": 200, **options}):
        found.setdefault(one.name, []).append(one)
    return found


def test_cohens_kappa_is_scikit_learns() -> None:
    draw = np.random.default_rng(1)
    first = draw.integers(0, 4, 300)
    second = np.where(draw.random(300) < 0.6, first, draw.integers(0, 4, 300))
    (found,) = of(np.stack([first, second], axis=1), 5)["cohen_kappa"]
    assert found.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert found.low < found.value < found.high
    assert found.rows == 300


def test_fleiss_kappa_of_his_own_example() -> None:
    counts = [[int(n) for n in row.split()] for row in FLEISS_1971.replace("\n", " ").strip().split(",")]
    ratings = np.array([[label for label, count in enumerate(row) for _ in range(count)] for row in counts])
    (found,) = of(ratings, 5)["fleiss_kappa"]
    assert found.value == pytest.approx(0.430, abs=0.0005)


def test_krippendorffs_alpha_of_his_own_example() -> None:
    ratings = np.array(KRIPPENDORFF).T - 1
    found = of(ratings, 5)
    assert found["krippendorff_alpha_nominal"][0].value == pytest.approx(0.743, abs=0.0005)
    assert found["krippendorff_alpha_ordinal"][0].value == pytest.approx(0.815, abs=0.0005)
    assert found["krippendorff_alpha_nominal"][0].rows == 11


def slow_alpha(ratings: np.ndarray, apart) -> float:
    """1 - mean distance within rows / mean distance of all pairs, by counting pairs one by one."""
    rows = [[int(x) for x in row if x != MISSING] for row in ratings]
    rows = [row for row in rows if len(row) > 1]
    flat = [x for row in rows for x in row]
    within = sum(
        apart(row[i], row[j], flat) / (len(row) - 1)
        for row in rows
        for i in range(len(row))
        for j in range(len(row))
        if i != j
    ) / len(flat)
    across = sum(apart(a, b, flat) for i, a in enumerate(flat) for j, b in enumerate(flat) if i != j)
    return 1 - within / (across / (len(flat) * (len(flat) - 1)))


def steps(a: int, b: int, flat: list[int]) -> float:
    low, high = min(a, b), max(a, b)
    between = sum(flat.count(g) for g in range(low, high + 1))
    return (between - (flat.count(a) + flat.count(b)) / 2) ** 2


def test_alpha_equals_counting_pairs_with_gaps() -> None:
    draw = np.random.default_rng(3)
    ratings = draw.integers(-1, 4, (25, 4))
    found = of(ratings, 4)
    nominal = slow_alpha(ratings, lambda a, b, _: float(a != b))
    assert found["krippendorff_alpha_nominal"][0].value == pytest.approx(nominal, abs=1e-12)
    assert found["krippendorff_alpha_ordinal"][0].value == pytest.approx(slow_alpha(ratings, steps), abs=1e-12)


def test_perfect_agreement_is_one_and_a_single_label_is_undefined() -> None:
    ratings = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 1]])
    assert all(one.value == pytest.approx(1) for each in of(ratings, 2).values() for one in each)
    alone = of(np.zeros((4, 3), int), 2)
    assert alone["percent"][0].value == 1
    assert alone["fleiss_kappa"][0].value is None
    assert alone["krippendorff_alpha_nominal"][0].value is None


def test_the_interval_covers_as_often_as_it_says() -> None:
    draw = np.random.default_rng(5)
    hits = 0
    for trial in range(100):
        first = draw.integers(0, 2, 120)
        second = np.where(draw.random(120) < 0.7, first, draw.integers(0, 2, 120))
        (found,) = of(np.stack([first, second], axis=1), 2, resamples=300, seed=trial)["cohen_kappa"]
        hits += found.low <= 0.7 <= found.high
    assert 88 <= hits <= 99


def test_many_labels_fit_into_memory() -> None:
    ratings = np.random.default_rng(0).integers(0, 77, (2000, 2))
    (found,) = of(ratings, 77)["cohen_kappa"]
    assert abs(found.value) < 0.05


def test_the_table_leaves_gaps_where_nobody_answered() -> None:
    names, ratings = table({"bob": {"x": "b"}, "ann": {"x": "a", "y": "b"}}, ["a", "b"])
    assert names == ("ann", "bob")
    assert ratings.tolist() == [[0, 1], [1, MISSING]]


def test_weighted_kappa_is_scikit_learns() -> None:
    random = np.random.default_rng(5)
    one = random.integers(0, 5, 200)
    other = np.clip(one + random.integers(-1, 2, 200), 0, 4)
    units = confusion_units(np.stack([one, other], axis=1), 5)
    wanted = cohen_kappa_score(one, other, weights="quadratic", labels=range(5))
    assert weighted_kappa(np.asarray(units.sum(axis=0))[None])[0] == pytest.approx(wanted)


def test_correlation_is_scipys() -> None:
    random = np.random.default_rng(6)
    one = random.normal(size=50)
    other = one + random.normal(size=50)
    assert correlation(correlation_units(one, other).sum(axis=0)) == pytest.approx(pearsonr(one, other).statistic)
    found = coefficient("r", ("a", "b"), correlation_units(one, other), correlation)
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    flat = coefficient("r", ("a", "b"), correlation_units(np.ones(9), np.arange(9.0)), correlation)
    assert flat.value is None
