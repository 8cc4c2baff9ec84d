"""Metrics of compared answers on rows written out."""

from __future__ import annotations

import numpy as np
import pytest

from sartor import registry
from sartor.evaluate.compare import compare
from sartor.evaluate.outcomes import from_line, to_line
from sartor.protocols import Outcome


def row(index: int, ratings: tuple[float, ...], scores: tuple[float, ...], lengths: tuple[int, ...]) -> Outcome:
    return Outcome(str(index), "?", "", ratings=ratings, scores=scores, lengths=lengths)


def value(name: str, rows: list[Outcome]) -> float:
    metric = registry.component("metric", name).METRIC
    return float(metric.combine(metric.stats(rows).sum(axis=0)))


PAIRS = [
    row(0, (1, 0), (-6.0, -8.0), (3, 8)),
    row(1, (1, 0), (-9.0, -4.0), (9, 2)),
    row(2, (1, 0), (-5.0, -5.0), (5, 5)),
]


def test_of_pairs() -> None:
    assert value("preference_accuracy", PAIRS) == pytest.approx((1 + 0 + 0.5) / 3)
    assert value("preference_accuracy_per_token", PAIRS) == pytest.approx((0 + 1 + 0.5) / 3)
    assert value("preference_margin", PAIRS) == pytest.approx((2 - 5 + 0) / 3)
    assert value("preference_margin_per_token", PAIRS) == pytest.approx(((-2 + 1) + (-1 + 2) + 0) / 3)


def test_a_ranking_counts_by_the_mean_of_its_pairs_and_ties_count_nothing() -> None:
    ranked = row(0, (-1.0, -1.0, -3.0), (-4.0, -9.0, -6.0), (1, 1, 1))
    assert value("preference_accuracy", [ranked]) == pytest.approx(0.5)
    assert value("preference_margin", [ranked]) == pytest.approx((2 - 3) / 2)


def test_verdicts_count_with_their_sign() -> None:
    judged = [row(0, (1.0,), (-4.0,), (2,)), row(1, (0.0,), (-10.0,), (5,))]
    assert value("preference_margin", judged) == pytest.approx((-4 + 10) / 2)
    assert value("preference_margin_per_token", judged) == pytest.approx((-2 + 2) / 2)
    assert np.isnan(value("preference_accuracy", judged))


def test_two_models_are_compared_on_them_and_they_survive_the_file() -> None:
    better = [row(index, (1.0, 0.0), (-1.0, -2.0 - index), (3, 3)) for index in range(30)]
    worse = [row(index, (1.0, 0.0), (-2.0, -1.0 + index % 2), (3, 3)) for index in range(30)]
    assert [from_line(to_line(each)) for each in better] == better
    metrics = [registry.component("metric", name).METRIC for name in ("preference_accuracy", "preference_margin")]
    found = compare({"base": worse, "tuned": better}, metrics, resamples=200)
    difference = found.difference("preference_accuracy", "base")
    assert difference is not None
    assert (difference.value, difference.word, difference.test) == (1.0, "better", "McNemar")
