"""Allocation of clusters to parts, compared with the best there is where all can be tried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from sartor.data.balance import Items, allocate, whole_numbers

SHARES = np.array([0.6, 0.2, 0.2])


def items(sizes: list[int], strata: list[int]) -> Items:
    count = len(sizes)
    return Items(np.arange(count), np.array(strata), np.array(sizes), count, max(strata) + 1)


def imbalance(things: Items, part: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """Largest deviation of a stratum's share of a part, and of a part's share, thrice; 3 for an empty part."""
    have = np.zeros((3, things.strata))
    np.add.at(have, (part[things.cluster], things.stratum), things.rows)
    totals = have.sum(1)
    if (totals[shares > 0] == 0).any():
        return 3.0
    inside = have[shares > 0] / totals[shares > 0, None]
    off_share = np.abs(totals / totals.sum() - shares).max()
    return float(max(3 * off_share, np.abs(inside - have.sum(0) / totals.sum()).max()))


@pytest.mark.parametrize("seed", range(12))
def test_near_the_best_of_all_allocations(seed: int) -> None:
    source = np.random.default_rng(seed)
    things = items(source.integers(20, 180, 8).tolist(), [*source.integers(0, 2, 7).tolist(), 1])
    best = min(imbalance(things, np.array(part), SHARES) for part in itertools.product(range(3), repeat=8))
    found = imbalance(things, allocate(things, SHARES, np.full(8, -1)).astype(np.int64), SHARES)
    assert found <= best + 0.05


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_many_sizes_balance(seed: int) -> None:
    source = np.random.default_rng(seed)
    shares = np.array([0.8, 0.1, 0.1])
    things = items(source.integers(1, 20, 200).tolist(), source.choice(3, 200, p=(0.6, 0.3, 0.1)).tolist())
    assert imbalance(things, allocate(things, shares, np.full(200, -1)).astype(np.int64), shares) <= 0.02


def test_as_many_clusters_as_parts() -> None:
    things = items([98, 1, 1], [0, 0, 0])
    assert sorted(allocate(things, SHARES, np.full(3, -1)).tolist()) == [0, 1, 2]
    assert allocate(things, SHARES, np.full(3, -1))[0] == 0
    things = items([50, 30, 20], [0, 0, 0])
    assert sorted(allocate(things, SHARES, np.full(3, -1)).tolist()) == [0, 1, 2]


def test_given_clusters_stay_and_closed_parts_stay_empty() -> None:
    things = items([5, 5, 1, 1, 1, 1], [0] * 6)
    given = np.array([1, 2, -1, -1, -1, -1])
    part = allocate(things, SHARES, given)
    assert part[:2].tolist() == [1, 2]
    assert set(allocate(things, np.array([0.5, 0.0, 0.5]), np.full(6, -1)).tolist()) == {0, 2}


def test_a_small_stratum_is_trained_on_first() -> None:
    shares = np.array([0.4, 0.3, 0.3])
    strata = [0] * 800 + list(range(1, 6))
    part = allocate(items([1] * len(strata), strata), shares, np.full(len(strata), -1))
    assert {stratum for stratum, where in zip(strata, part, strict=True) if where == 0} == set(range(6))


@pytest.mark.parametrize("total", [3, 5, 10, 11, 999])
def test_whole_numbers_add_up(total: int) -> None:
    counts = whole_numbers(total, np.array([0.8, 0.1, 0.1]))
    assert counts.sum() == total
    assert counts.min() >= 1
    assert np.abs(counts - total * np.array([0.8, 0.1, 0.1])).max() < 2
