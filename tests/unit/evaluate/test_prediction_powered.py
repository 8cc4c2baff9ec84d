"""Scores by people and a judge together: against the papers' formulas written out, and by how often the truth is inside."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.evaluate import intervals
from sartor.evaluate.prediction_powered import WIDTH, estimate, interval, units, weight


def sample(seed: int, n: int = 60, others: int = 400, noise: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """A judge that is too kind by 0.8 and noisy; the mean by people is 3."""
    random = np.random.default_rng(seed)
    truth = random.normal(3, 1, n + others)
    judge = truth + 0.8 + noise * random.normal(size=n + others)
    return judge, np.where(np.arange(n + others) < n, truth, np.nan)


def plain(judge: np.ndarray, people: np.ndarray, scale: float | None) -> tuple[float, float, float]:
    """(theta, standard error, lambda) as the papers write them."""
    told = ~np.isnan(people)
    f, y, other = judge[told], people[told], judge[~told]
    n, many = len(y), len(other)
    if scale is None:
        scale = float(np.clip(np.cov(y, f)[0, 1] / ((1 + n / many) * np.var(judge, ddof=1)), 0, 1))
    theta = scale * np.mean(other) + np.mean(y - scale * f)
    error = np.sqrt(scale**2 * np.var(other, ddof=1) / many + np.var(y - scale * f, ddof=1) / n)
    return float(theta), float(error), scale


@pytest.mark.parametrize("fixed", [None, 1.0, 0.0])
def test_it_is_the_formula_of_the_papers(fixed: float | None) -> None:
    judge, people = sample(3)
    theta, error, scale = plain(judge, people, fixed)
    found = interval(judge, people, 0.95, fixed=fixed)
    assert found.value == pytest.approx(theta, abs=1e-12)
    assert found.weight == pytest.approx(scale, abs=1e-12)
    assert found.high - found.value == pytest.approx(1.959964 * error, rel=1e-6)
    assert (found.people, found.others) == (60, 400)


def test_the_sums_give_the_same() -> None:
    judge, people = sample(4)
    lines = units(judge, people)
    assert lines.shape == (460, WIDTH)
    found = interval(judge, people, 0.95)
    assert float(estimate(lines.sum(axis=0))) == pytest.approx(found.value, abs=1e-12)
    assert float(weight(lines.sum(axis=0))) == pytest.approx(found.weight, abs=1e-12)


def test_the_truth_is_inside_as_often_as_promised_and_the_interval_is_shorter_than_that_of_people_alone() -> None:
    inside = {"powered": 0, "plain": 0, "judge": 0}
    widths = {"powered": 0.0, "people": 0.0}
    for seed in range(600):
        judge, people = sample(seed)
        powered, plainly = interval(judge, people, 0.95), interval(judge, people, 0.95, fixed=1.0)
        alone, judged = interval(judge, people, 0.95, fixed=0.0), interval(judge, judge, 0.95)
        inside["powered"] += powered.low <= 3 <= powered.high
        inside["plain"] += plainly.low <= 3 <= plainly.high
        inside["judge"] += judged.low <= 3 <= judged.high
        widths["powered"] += powered.high - powered.low
        widths["people"] += alone.high - alone.low
    assert 0.92 < inside["powered"] / 600 < 0.98
    assert 0.92 < inside["plain"] / 600 < 0.98
    assert inside["judge"] == 0
    assert widths["powered"] < 0.8 * widths["people"]


def test_resampled_rows_cover_the_truth_too() -> None:
    inside, count = 0, 150
    for seed in range(count):
        lines = units(*sample(1000 + seed, n=50, others=150))
        total = lines.sum(axis=0)
        drawn = np.concatenate([estimate(chunk @ lines) for chunk in intervals.weights(len(lines), 400, seed)])
        low, high = intervals.bca(drawn, float(estimate(total)), estimate(total - lines), 0.95)
        inside += low <= 3 <= high
    assert 0.89 < inside / count <= 1


def test_a_judge_without_worth_counts_nothing() -> None:
    random = np.random.default_rng(0)
    people = np.where(np.arange(400) < 50, random.normal(size=400), np.nan)
    found = interval(np.full(400, 2.0), people, 0.95)
    assert found.weight == 0
    assert found.value == pytest.approx(np.nanmean(people))
    against = interval(-10 * np.nan_to_num(people) + random.normal(size=400), people, 0.95)
    assert against.weight == 0


def test_without_people_or_without_further_rows() -> None:
    judge, people = np.array([1.0, 2.0, 3.0]), np.full(3, np.nan)
    assert np.isnan(interval(judge, people, 0.95).value)
    assert np.isnan(estimate(units(judge, people).sum(axis=0)))
    all_of_them = np.array([2.0, 2.0, 5.0])
    assert interval(judge, all_of_them, 0.95).value == pytest.approx(3)
    assert float(estimate(units(judge, all_of_them).sum(axis=0))) == pytest.approx(3)
    unread = np.array([np.nan, 2.0, 3.0])
    assert interval(unread, all_of_them, 0.95).people == 2
