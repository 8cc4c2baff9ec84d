"""How good each token of an answer was, compared with what was to be expected: pure functions of numbers.

L: tokens of one answer, R: answers of a round, N: tokens of all answers. A reward stands on the token it is given for; that of
a whole answer on its last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sartor.protocols import Credit

TINY = 1e-6
"""Added to deviations, so that answers of equal reward have no advantage rather than an infinite one."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of the R answers of a round when their tokens are given credit."""

    scores: np.ndarray
    """[R] reward of each whole answer"""
    group: np.ndarray
    """[R] answers to one prompt have one number"""
    logp: Sequence[np.ndarray]
    """R arrays [L] of the policy that wrote them"""
    reference: Sequence[np.ndarray]
    """R arrays [L] of the model that training started from"""
    values: Sequence[np.ndarray] = ()
    """R arrays [L], only where a value head gives them"""


@dataclass(frozen=True, slots=True)
class Advantages:
    """What a round teaches."""

    advantages: list[np.ndarray]
    """R arrays [L] float32"""
    returns: list[np.ndarray]
    """R arrays [L] float32: what the values should have been; empty without values"""


def credit(written: Written, how: Credit, beta: float) -> Advantages:
    """The advantage of every token, with a penalty of `beta` for drifting from the reference (0: none).

    gae and to_go put the penalty on each token, the rules that compare whole answers subtract it from their rewards.
    """
    pairs = zip(written.logp, written.reference, strict=True)
    drift = [(logp - reference).astype(np.float64) for logp, reference in pairs]
    returns: list[np.ndarray] = []
    if how.rule in ("group", "leave_one_out"):
        scores = written.scores - beta * np.array([each.sum() for each in drift])
        if how.rule == "group":
            whole = group_relative(scores, written.group, divide=how.divide)
        else:
            whole = leave_one_out(scores, written.group)
        found = [np.full(len(each), value) for each, value in zip(drift, whole, strict=True)]
    else:
        rewards = [penalised(score, each, beta) for score, each in zip(written.scores, drift, strict=True)]
        if how.rule == "gae":
            both = [
                gae(reward, value, discount=how.discount, trace=how.trace)
                for reward, value in zip(rewards, written.values, strict=True)
            ]
            found, returns = [each[0] for each in both], [each[1] for each in both]
        else:
            found = [to_go(reward, how.discount) for reward in rewards]
    if how.whiten:
        found = whitened(found)
    return Advantages([each.astype(np.float32) for each in found], [each.astype(np.float32) for each in returns])


def penalised(score: float, drift: np.ndarray, beta: float) -> np.ndarray:
    """[L] -> [L] rewards: -beta log(policy / reference) on each token, and the answer's score on its last.

    InstructGPT (Ouyang et al. 2022), equation 2, token by token.
    """
    rewards: np.ndarray = -beta * drift
    rewards[-1] += score
    return rewards


def gae(rewards: np.ndarray, values: np.ndarray, *, discount: float, trace: float) -> tuple[np.ndarray, np.ndarray]:
    """[L], [L] -> advantages [L] and returns [L], the sum of both.

    A_t = sum_l (discount * trace)^l delta_{t+l} with delta_t = r_t + discount V_{t+1} - V_t, and no value behind the end
    (Schulman et al. 2016, arXiv:1506.02438, equation 16).
    """
    following = np.append(values[1:], 0.0)
    delta = rewards + discount * following - values
    advantages = to_go(delta, discount * trace)
    return advantages, advantages + values


def to_go(rewards: np.ndarray, discount: float) -> np.ndarray:
    """[L] -> [L] sum_l discount^l r_{t+l}: all that is still to come."""
    total, sums = 0.0, np.empty(len(rewards))
    for place in range(len(rewards) - 1, -1, -1):
        total = float(rewards[place]) + discount * total
        sums[place] = total
    return sums


def group_relative(scores: np.ndarray, group: np.ndarray, *, divide: bool) -> np.ndarray:
    """[R], [R] -> [R] (r_i - mean of its group), divided by the group's standard deviation if asked.

    GRPO (Shao et al. 2024, arXiv:2402.03300, section 4.1.2) divides; Dr. GRPO (Liu et al. 2025, arXiv:2503.20783, section
    3.2) does not, because it makes questions that are nearly always or never answered count more. The deviation is that of
    a sample (n - 1). An answer alone in its group has no advantage.
    """
    result = np.zeros(len(scores))
    for own in _members(group):
        centred = scores[own] - scores[own].mean()
        deviation = scores[own].std(ddof=1) if len(own) > 1 else 0.0
        result[own] = centred / (deviation + TINY) if divide else centred
    return result


def leave_one_out(scores: np.ndarray, group: np.ndarray) -> np.ndarray:
    """[R], [R] -> [R] r_i - the mean of the other answers in its group; 0 for an answer alone.

    RLOO (Ahmadian et al. 2024, arXiv:2402.14740, equation 8, after Kool et al. 2019).
    """
    result = np.zeros(len(scores))
    for own in _members(group):
        if len(own) > 1:
            result[own] = (scores[own] - scores[own].mean()) * len(own) / (len(own) - 1)
    return result


def whitened(advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
    """R arrays [L] -> the same with mean 0 and deviation 1 over all N tokens (REINFORCE++, Hu 2025, arXiv:2501.03262)."""
    every = np.concatenate(advantages)
    mean, deviation = float(every.mean()), float(every.std())
    return [(each - mean) / (deviation + TINY) for each in advantages]


def _members(group: np.ndarray) -> list[np.ndarray]:
    """The indices of each group's answers."""
    return [np.flatnonzero(group == number) for number in np.unique(group)]
