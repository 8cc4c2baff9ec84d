"""The monitor: what it measures, when it warns, and that it says nothing twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sartor.rollouts.monitor import Measured, Monitor, distinct, repetition

USUAL = Measured(reward=0.2, kl=0.5, tokens=40, unfinished=0.1, repetition=0.05, distinct=0.8, entropy=2.0)


def test_repetition_is_the_share_said_before() -> None:
    """1 2 1 2 1 2 has pairs 12 21 12 21 12: two of five are new."""
    assert repetition(np.array([1, 2, 1, 2, 1, 2]), 2) == pytest.approx(3 / 5)
    assert repetition(np.arange(9)) == 0
    assert repetition(np.array([1, 1, 1])) == 0


def test_distinct_counts_over_all_answers() -> None:
    assert distinct([np.array([1, 2, 3]), np.array([1, 2])]) == pytest.approx(2 / 3)
    assert distinct([np.array([1])]) == 1


def begun(bound: float = 5.0) -> Monitor:
    monitor = Monitor(bound)
    for _ in range(3):
        assert list(monitor.see(USUAL)) == []
    return monitor


@pytest.mark.parametrize(
    "change", [{"tokens": 90.0}, {"tokens": 15.0}, {"repetition": 0.5}, {"distinct": 0.3}, {"entropy": 0.1}]
)
def test_rewards_that_rise_while_answers_degrade_are_suspicious(change: dict[str, Any]) -> None:
    monitor = begun()
    assert list(monitor.see(replace(USUAL, **change))) == []
    ((code, what),) = monitor.see(replace(USUAL, reward=0.6, **change))
    assert code == "N425"
    assert "the reward has risen from 0.2 to 0.6" in what
    assert list(monitor.see(replace(USUAL, reward=0.7, **change))) == []
    assert list(monitor.see(replace(USUAL, reward=0.7))) == []
    assert len(list(monitor.see(replace(USUAL, reward=0.6, **change)))) == 1


def test_good_answers_raise_no_alarm() -> None:
    assert list(begun().see(replace(USUAL, reward=0.9, kl=4.0, tokens=60.0))) == []


def test_drift_is_told_whatever_the_reward() -> None:
    monitor = Monitor(5.0)
    ((code, _),) = monitor.see(replace(USUAL, kl=6.0))
    assert code == "N426"
    assert list(monitor.see(replace(USUAL, kl=7.0))) == []


def test_it_goes_on_where_it_was() -> None:
    monitor = begun()
    list(monitor.see(replace(USUAL, reward=0.6, tokens=90.0)))
    other = Monitor(5.0)
    other.restore(monitor.state())
    assert (other.first, other.told) == (monitor.first, monitor.told)
