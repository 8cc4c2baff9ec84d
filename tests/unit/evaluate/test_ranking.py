"""Ratings of several models: closed form, scikit-learn's logistic regression, planted strengths."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sartor.evaluate.ranking import PRIOR, elo, ratings, strengths


def tournament(rows: int, powers: dict[str, float], seed: int = 0, ties: float = 0.2) -> np.ndarray:
    """Every pair meets on every row."""
    random = np.random.default_rng(seed)
    values = np.array(list(powers.values()))
    found = np.full((rows, len(values), len(values)), np.nan)
    for row in range(rows):
        for one, other in combinations(range(len(values)), 2):
            chance = 1 / (1 + 10 ** ((values[other] - values[one]) / 400))
            won = 0.5 if random.random() < ties else float(random.random() < chance)
            found[row, one, other], found[row, other, one] = won, 1 - won
    return found


def test_two_models_have_the_odds_of_their_wins() -> None:
    won = np.array([[0.0, 30.0], [10.0, 0.0]])
    gap = elo(strengths(won))
    wanted = 400 * np.log10((30 + PRIOR / 2) / (10 + PRIOR / 2))
    assert gap[0] - gap[1] == pytest.approx(wanted, abs=1e-4)
    assert gap.mean() == pytest.approx(1000)


def test_it_is_the_maximum_likelihood_of_scikit_learn() -> None:
    rows = tournament(40, {"a": 1200, "b": 1000, "c": 950, "d": 800})
    total = np.nansum(rows, axis=0)
    lines, sides, weighed = [], [], []
    for one, other in combinations(range(4), 2):
        line = np.zeros(4)
        line[one], line[other] = 1, -1
        for side, count in ((1, total[one, other]), (0, total[other, one])):
            lines.append(line)
            sides.append(side)
            weighed.append(count + PRIOR / 2)
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    fitted.fit(np.array(lines), sides, sample_weight=weighed)
    wanted = fitted.coef_[0] - fitted.coef_[0].mean()
    assert strengths(total) == pytest.approx(wanted, abs=1e-4)


def test_planted_strengths_are_inside_their_intervals() -> None:
    powers = {"a": 1150.0, "b": 1050.0, "c": 950.0, "d": 850.0}
    found = ratings(list(powers), tournament(400, powers, seed=3, ties=0), resamples=300)
    assert [each.model for each in found] == ["a", "b", "c", "d"]
    for each in found:
        assert each.low < powers[each.model] < each.high
        assert each.comparisons == 1200
    assert found[0].low > found[1].high


def test_one_that_wins_everything_has_a_rating() -> None:
    rows = np.full((10, 2, 2), np.nan)
    rows[:, 0, 1], rows[:, 1, 0] = 1, 0
    best, worst = ratings(["a", "b"], rows, resamples=200)
    assert (best.model, best.wins, worst.wins) == ("a", 10, 0)
    assert np.isfinite([best.rating, best.low, best.high, worst.low]).all()


def test_models_that_never_met_are_not_ranked() -> None:
    rows = np.full((3, 3, 3), np.nan)
    rows[:, 0, 1], rows[:, 1, 0] = 1, 0
    with pytest.raises(ValueError, match="never met"):
        ratings(["a", "b", "c"], rows)
