from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.evaluate import intervals
from sartor.metrics._mean import Mean


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_weights_draw_every_resample_whole_and_do_not_depend_on_chunks(rows: int, resamples: int, seed: int) -> None:
    whole = np.concatenate(list(intervals.weights(rows, resamples, seed)))
    assert whole.shape == (resamples, rows)
    assert (whole.sum(axis=1) == rows).all()
    assert (whole >= 0).all()


def test_weights_are_multinomial_and_the_same_for_the_same_seed() -> None:
    first = np.concatenate(list(intervals.weights(50, 4000, 1)))
    assert (first == np.concatenate(list(intervals.weights(50, 4000, 1)))).all()
    assert (first != np.concatenate(list(intervals.weights(50, 4000, 2)))).any()
    assert first.mean(axis=0) == pytest.approx(np.ones(50), abs=0.1)
    assert first.var() == pytest.approx(1 - 1 / 50, rel=0.02)


def test_weights_stay_within_the_memory_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "CELLS", 100)
    chunks = list(intervals.weights(30, 10, 0))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
    assert [len(chunk) for chunk in intervals.weights(1000, 2, 0)] == [1, 1]


def _interval(sample: np.ndarray, resamples: int, seed: int) -> intervals.Interval:
    stats = np.stack([sample, np.ones_like(sample)], axis=1)
    combine = Mean("mean", lambda outcome: 0.0).combine
    resampled = np.concatenate([combine(chunk @ stats) for chunk in intervals.weights(len(sample), resamples, seed)])
    total = stats.sum(axis=0)
    return intervals.bca(resampled, float(combine(total)), combine(total - stats), 0.95)


def test_bca_equals_scipy() -> None:
    from scipy.stats import bootstrap

    sample = np.random.default_rng(0).exponential(size=60)
    ours = _interval(sample, 20_000, 1)
    theirs = bootstrap((sample,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2))
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_bca_covers_the_truth_about_as_often_as_it_says(kind: str) -> None:
    draw = np.random.default_rng(11)
    hits = 0
    for trial in range(300):
        sample = draw.normal(1.0, size=60) if kind == "normal" else draw.exponential(1.0, size=60)
        low, high = _interval(sample, 400, trial)
        hits += low <= 1.0 <= high
    assert 0.91 <= hits / 300 <= 0.98


def test_wilson_covers_and_is_never_certain() -> None:
    assert intervals.wilson(40, 40, 0.95) == pytest.approx((0.9124, 1.0), abs=1e-4)
    assert intervals.wilson(0, 40, 0.95) == pytest.approx((0.0, 0.0876), abs=1e-4)
    draw = np.random.default_rng(3)
    hits = 0
    for right in draw.binomial(50, 0.8, size=1000).tolist():
        low, high = intervals.wilson(right, 50, 0.95)
        hits += low <= 0.8 <= high
    assert 0.93 <= hits / 1000 <= 0.97


@pytest.mark.parametrize(("up", "down"), [(0.3, 0.1), (0.05, 0.05), (0.9, 0.0)])
def test_bonett_price_covers(up: float, down: float) -> None:
    draw = np.random.default_rng(4)
    hits = 0
    for gained, lost, _ in draw.multinomial(60, [up, down, 1 - up - down], size=1000).tolist():
        low, high = intervals.bonett_price(gained, lost, 60, 0.95)
        hits += low <= up - down <= high
    assert 0.93 <= hits / 1000 <= 1.0
    low, high = intervals.bonett_price(0, 0, 40, 0.95)
    assert low < 0 < high


def test_mcnemar_mid_p() -> None:
    assert intervals.mcnemar(0, 0) == 1.0
    assert intervals.mcnemar(5, 5) == pytest.approx(1.0)
    assert intervals.mcnemar(5, 0) == pytest.approx(2 * 0.5**5 - 0.5**5)
    assert intervals.mcnemar(3, 20) == intervals.mcnemar(20, 3) < 0.001


def test_values_that_never_vary_have_no_width_and_unknown_ones_no_interval() -> None:
    assert intervals.bca(np.full(99, 0.5), 0.5, np.full(9, 0.5), 0.95) == (0.5, 0.5)
    assert np.isnan(intervals.bca(np.full(99, np.nan), 0.5, np.full(9, 0.5), 0.95)).all()


def test_standard_error_of_a_mean_is_the_textbook_one() -> None:
    sample = np.random.default_rng(0).normal(size=30)
    without = (sample.sum() - sample) / 29
    assert intervals.standard_error(without) == pytest.approx(sample.std(ddof=1) / 30**0.5)


def test_detectable_is_seen_four_times_of_five() -> None:
    """Plant exactly the detectable difference, with rows correlated by one half, and count how often it is found."""
    draw = np.random.default_rng(9)
    error = 1 / 80**0.5
    planted = intervals.detectable(error, 0.95)
    seen = 0
    for _ in range(500):
        shared = draw.normal(size=80) * 0.5**0.5
        base, tuned = shared + draw.normal(size=80) * 0.5**0.5, shared + draw.normal(size=80) * 0.5**0.5 + planted
        difference = tuned - base
        seen += difference.mean() - intervals.z(0.95) * difference.std(ddof=1) / 80**0.5 > 0
    assert seen / 500 == pytest.approx(intervals.POWER, abs=0.06)


def test_a_chance_beyond_what_resamples_can_tell_is_that_of_student() -> None:
    """The p-value of a paired t test, where all resamples are on one side; no more resamples are needed to see how small it is."""
    from scipy.stats import ttest_1samp

    apart = np.random.default_rng(3).normal(1.0, 1.0, 40)
    (weights,) = intervals.weights(40, 2000, 0)
    p = intervals.bootstrap_p(weights @ apart / 40, 40)
    assert p < 2 / 2001
    assert np.log10(p) == pytest.approx(np.log10(ttest_1samp(apart, 0).pvalue), abs=0.6)
    assert intervals.bootstrap_p(np.full(2000, 0.3), 40) == pytest.approx(2 / 2001)
    assert intervals.bootstrap_p(np.array([-1.0, 1.0, 2.0, 3.0]), 40) == pytest.approx(2 * 2 / 5)
