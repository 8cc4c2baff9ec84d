"""The win rate for answers of equal length: against scikit-learn, and of judges that look at length alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sartor.evaluate.judges._length import PENALTY, fit, rate, units


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_it_is_the_logistic_regression_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    apart = random.normal(30, 120, 3000)
    x = np.tanh(apart / apart.std())
    wins = (random.random(3000) < sigmoid(0.4 + 1.5 * x)).astype(float)
    ties = random.random(3000) < 0.2
    wins[ties] = 0.5
    theta, phi = fit(units(wins, apart).sum(axis=0))
    fitted = LogisticRegression(C=1 / PENALTY, tol=1e-10, max_iter=1000)
    twice = np.concatenate([x, x])[:, None]
    fitted.fit(twice, np.repeat([1, 0], 3000), sample_weight=np.concatenate([wins, 1 - wins]))
    assert float(theta) == pytest.approx(fitted.intercept_[0], abs=0.01)
    assert float(phi) == pytest.approx(fitted.coef_[0, 0], abs=0.02)


def test_what_length_alone_won_is_taken_away() -> None:
    random = np.random.default_rng(2)
    apart = random.normal(80, 100, 2000)
    wins = (random.random(2000) < sigmoid(3 * np.tanh(apart / apart.std()))).astype(float)
    assert wins.mean() > 0.7
    assert float(rate(units(wins, apart).sum(axis=0))) == pytest.approx(0.5, abs=0.04)


def test_what_is_better_at_any_length_stays_so() -> None:
    random = np.random.default_rng(3)
    apart = random.normal(0, 100, 2000)
    wins = (random.random(2000) < 0.8).astype(float)
    assert float(rate(units(wins, apart).sum(axis=0))) == pytest.approx(wins.mean(), abs=0.01)


@pytest.mark.parametrize("won", [0.0, 0.5, 1.0])
def test_one_sided_results_stay_finite(won: float) -> None:
    found = float(rate(units(np.full(30, won), np.linspace(-5, 9, 30)).sum(axis=0)))
    assert found == pytest.approx(won, abs=0.01)


def test_length_that_decides_every_row_leaves_no_preference() -> None:
    apart = np.linspace(-100, 100, 40)
    found = float(rate(units((apart > 0).astype(float), apart).sum(axis=0)))
    assert found == pytest.approx(0.5, abs=0.02)


def test_nothing_is_said_where_the_same_model_is_always_longer() -> None:
    random = np.random.default_rng(4)
    wins = (random.random(100) < 0.7).astype(float)
    assert np.isnan(rate(units(wins, random.uniform(1, 90, 100)).sum(axis=0)))
    assert float(rate(units(wins, np.zeros(100)).sum(axis=0))) == pytest.approx(wins.mean(), abs=0.01)


def test_pairs_that_were_not_decided_count_nothing() -> None:
    wins, apart = np.array([1.0, 0.0, np.nan]), np.array([3.0, -2.0, 900.0])
    assert units(wins, apart).sum(axis=0) == pytest.approx(units(wins[:2], apart[:2]).sum(axis=0))
    assert np.isnan(rate(units(np.array([np.nan]), np.zeros(1)).sum(axis=0)))
