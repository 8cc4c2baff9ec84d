"""Advantages against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.protocols import Credit
from sartor.rollouts.advantages import (
    Written,
    credit,
    gae,
    group_relative,
    leave_one_out,
    penalised,
    to_go,
    whitened,
)

SCORES, GROUP = np.array([1.0, 2.0, 6.0, 4.0, 4.0]), np.array([0, 0, 0, 1, 1])


def test_gae_is_the_discounted_sum_of_surprises() -> None:
    """rewards (0, 0, 1), values (0.5, 0.4, 0.2), gamma 0.9, lambda 0.5.

    delta: 0.9 * 0.4 - 0.5 = -0.14, 0.9 * 0.2 - 0.4 = -0.22, 1 - 0.2 = 0.8
    A_2 = 0.8, A_1 = -0.22 + 0.45 * 0.8 = 0.14, A_0 = -0.14 + 0.45 * 0.14 = -0.077
    """
    advantages, returns = gae(np.array([0, 0, 1.0]), np.array([0.5, 0.4, 0.2]), discount=0.9, trace=0.5)
    assert advantages == pytest.approx([-0.077, 0.14, 0.8])
    assert returns == pytest.approx([0.423, 0.54, 1.0])


def test_gae_at_its_ends_is_surprise_alone_or_all_that_comes() -> None:
    rewards, values = np.array([1.0, -2.0, 3.0]), np.array([0.3, 0.1, -0.2])
    one_step, _ = gae(rewards, values, discount=1.0, trace=0.0)
    assert one_step == pytest.approx([1.0 + 0.1 - 0.3, -2.0 - 0.2 - 0.1, 3.0 + 0.2])
    monte_carlo, returns = gae(rewards, values, discount=1.0, trace=1.0)
    assert monte_carlo == pytest.approx([2.0 - 0.3, 1.0 - 0.1, 3.0 + 0.2])
    assert returns == pytest.approx([2.0, 1.0, 3.0])


def test_what_is_still_to_come() -> None:
    assert to_go(np.array([1.0, 0.0, 4.0]), 0.5) == pytest.approx([2.0, 2.0, 4.0])


def test_a_group_is_compared_with_its_mean() -> None:
    """Mean of (1, 2, 6) is 3, its deviation sqrt((4 + 1 + 9) / 2) = sqrt(7)."""
    assert group_relative(SCORES, GROUP, divide=False) == pytest.approx([-2, -1, 3, 0, 0])
    wanted = np.array([-2, -1, 3, 0, 0]) / 7**0.5
    assert group_relative(SCORES, GROUP, divide=True) == pytest.approx(wanted, abs=1e-5)


def test_an_answer_is_compared_with_the_others() -> None:
    """1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2; equal ones have none."""
    assert leave_one_out(SCORES, GROUP) == pytest.approx([-3, -1.5, 4.5, 0, 0])


def test_an_answer_alone_has_no_advantage() -> None:
    one = np.array([7.0]), np.array([0])
    assert leave_one_out(*one) == group_relative(*one, divide=True) == group_relative(*one, divide=False) == [0]


def test_whitening_is_over_all_tokens() -> None:
    """(1, 3) and (5,): mean 3, deviation sqrt(8 / 3)."""
    one, two = whitened([np.array([1.0, 3.0]), np.array([5.0])])
    assert one == pytest.approx(np.array([-2, 0]) / (8 / 3) ** 0.5, abs=1e-5)
    assert two == pytest.approx(np.array([2]) / (8 / 3) ** 0.5, abs=1e-5)


def test_the_penalty_is_on_each_token_and_the_score_on_the_last() -> None:
    assert penalised(2.0, np.array([0.5, -1.0, 0.25]), 0.1) == pytest.approx([-0.05, 0.1, 1.975])


def written() -> Written:
    logp = [np.array([-1.0, -2.0], np.float32), np.array([-0.5], np.float32)]
    reference = [np.array([-1.5, -2.5], np.float32), np.array([-0.5], np.float32)]
    return Written(np.array([1.0, 3.0]), np.array([0, 0]), logp, reference, [np.zeros(2), np.zeros(1)])


def test_whole_answers_pay_for_their_drift() -> None:
    """Drift of the first is 0.5 + 0.5 = 1: rewards 1 - 0.2 = 0.8 and 3."""
    found = credit(written(), Credit("leave_one_out"), 0.2)
    assert found.advantages[0] == pytest.approx([-2.2, -2.2])
    assert found.advantages[1] == pytest.approx([2.2])
    assert found.returns == []
    found = credit(written(), Credit("group"), 0.2)
    assert found.advantages[0] == pytest.approx([-1.1, -1.1])


def test_tokens_pay_for_their_drift() -> None:
    """Rewards -0.1, 1 - 0.1 and 3; with values of 0 and lambda 1 gae is what is to come."""
    for rule in ("gae", "to_go"):
        found = credit(written(), Credit(rule), 0.2)
        assert found.advantages[0] == pytest.approx([0.8, 0.9])
        assert found.advantages[1] == pytest.approx([3.0])
    assert credit(written(), Credit("gae"), 0.2).returns[0] == pytest.approx([0.8, 0.9])


def test_whitening_is_as_asked() -> None:
    found = np.concatenate(credit(written(), Credit("to_go", whiten=True), 0.0).advantages)
    assert found.mean() == pytest.approx(0, abs=1e-6)
    assert found.std() == pytest.approx(1, abs=1e-5)
