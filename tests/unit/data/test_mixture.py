"""Shares of tokens by source, and rows that come again only when all others have."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from sartor.data.mixture import Mixture, class_weights, demands


def test_without_weights_an_epoch_is_everything() -> None:
    assert demands([100, 300], [None, None]).tolist() == [100, 300]


def test_a_weight_is_a_share_of_the_whole_epoch() -> None:
    demand = demands([950, 10_000], [None, 0.05])
    assert demand[1] / demand.sum() == pytest.approx(0.05)
    assert demand[0] == 950


def test_where_all_have_weights_they_are_relative() -> None:
    demand = demands([100, 300], [3.0, 1.0])
    assert demand.tolist() == [300, 100]


def test_temperature_evens_out_what_has_no_weight() -> None:
    demand = demands([100, 10_000, 500], [None, None, 0.5], 2.0)
    assert demand[1] / demand[0] == pytest.approx(10)
    assert demand[:2].sum() == pytest.approx(10_100)
    assert demand[2] / demand.sum() == pytest.approx(0.5)


def test_weights_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves nothing"):
        demands([100, 300, 5], [0.6, 0.5, None])


def test_a_source_without_rows_takes_no_share() -> None:
    assert demands([100, 0], [None, 0.3]).tolist() == [100, 0]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_shares_are_exact_within_a_row_and_rows_take_turns(share: float) -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(5, 60, 400)
    source = (np.arange(400) % 5 == 0).astype(np.int64)
    tokens = np.bincount(source, lengths).astype(int)
    mixture = Mixture(lengths, source, demands(tokens.tolist(), [None, share]), seed=1)
    taken = np.zeros(400, int)
    for epoch in range(7):
        rows = mixture.rows(epoch)
        np.add.at(taken, rows, 1)
        got = np.bincount(source[rows], lengths[rows], minlength=2)
        assert np.abs(got - mixture.demand).max() <= lengths.max()
        spread = [np.ptp(taken[source == number]) for number in (0, 1)]
        assert max(spread) <= 1, "no row comes again before all others have"
    assert set(taken[source == 0]) == {7}
    told = mixture.json(["a", "b"])
    assert told[1]["share"] == pytest.approx(share)
    assert told[0]["passes_an_epoch"] == 1


def test_epochs_are_a_function_of_the_seed_alone() -> None:
    lengths, source = np.full(50, 7), np.arange(50) % 2
    one, two, other = (Mixture(lengths, source, demands([175, 175], [1.0, 4.0]), seed) for seed in (1, 1, 2))
    assert one.rows(3).tolist() == two.rows(3).tolist()
    assert one.rows(3).tolist() != other.rows(3).tolist()
    assert sorted(one.rows(2).tolist()) != sorted(one.rows(3).tolist())


def test_balanced_class_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([0, 0, 0, 2, 2, 1, -1])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 2]), y=labels[:-1])
    found = class_weights(labels, ["a", "b", "c", "never"], "balanced")
    assert found.tolist() == pytest.approx([*expected[labels[:-1]], 1.0])
    assert found[:-1].mean() == pytest.approx(1.0)


def test_named_class_weights() -> None:
    assert class_weights(np.array([0, 1, -1]), ["a", "b"], {"b": 2.5}).tolist() == [1.0, 2.5, 1.0]
