"""Equal values among many, against plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sartor.data import groups
from sartor.data.groups import distinct, first_equal, first_same, is_among, most_common

NUMBERS = st.lists(st.integers(0, 9))


def hashes(values: list[int]) -> NDArray[np.uint64]:
    return np.array([value * 0x9E3779B97F4A7C15 % 2**64 for value in values], np.uint64)


@given(NUMBERS)
def test_first_place_of_equal_values(values: list[int]) -> None:
    wanted = [values.index(value) for value in values]
    assert first_equal(hashes(values)).tolist() == wanted
    assert first_same(np.array(values, np.int32), 10).tolist() == wanted


def test_many_values_are_looked_at_in_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "AT_ONCE", 64)
    values = np.random.default_rng(0).integers(0, 700, 5000).tolist()
    keys = hashes(values)
    assert len(list(groups._shares(keys))) > 8
    assert first_equal(keys).tolist() == [values.index(value) for value in values]
    assert is_among(np.array([3, 5]), np.array(values)).tolist() == [value in (3, 5) for value in values]


@given(NUMBERS, st.integers(0, 5))
def test_the_most_common_value_is_found_where_it_is_the_most(values: list[int], more: int) -> None:
    keys = hashes(values)
    least = len(values) // 2 + more
    wanted = [value for value, count in Counter(values).items() if count > least]
    found = most_common(keys, least)
    assert (found is None) == (not wanted)
    assert found is None or int(found) == int(hashes(wanted)[0])


@given(NUMBERS)
def test_distinct_values_ascend(values: list[int]) -> None:
    assert distinct(np.array(values, np.uint64)).tolist() == sorted(set(values))
