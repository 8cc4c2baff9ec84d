"""Which arm of a test is better: winner, none yet, or stop because the arms differ too little to matter.

Each of k arms has a confidence sequence at alpha / k, so all of them hold at once at every moment with probability 1 - alpha, and with
them every difference [low_i - high_j, high_i - low_j]. An arm wins when it differs from each other one in the right direction. The test
stops without one when every difference lies within the margin. Assumed: who gets which arm is drawn independently of the answers, and
an observation of an arm has the same mean whatever came before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

from sartor.monitor.index import Entry
from sartor.monitor.measured import Measure
from sartor.monitor.sequential import Sums, share_interval, time_interval

Says = Literal["winner", "none yet", "stop"]
Unit = Literal["user", "request"]


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of an arm."""

    name: str
    answers: int
    """Given by it, measured or not."""
    n: int
    """Observations."""
    mean: float | None
    low: float
    high: float

    def json(self) -> dict[str, Any]:
        """Bounds that are not known are null."""
        bounds = [None if abs(bound) == float("inf") else bound for bound in (self.low, self.high)]
        return {
            "arm": self.name,
            "answers": self.answers,
            "n": self.n,
            "mean": self.mean,
            "low": bounds[0],
            "high": bounds[1],
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a test stands."""

    says: Says
    winner: str | None
    arms: tuple[Arm, ...]


def judge(
    sums: Mapping[str, Sums], answers: Mapping[str, int], measure: Measure, alpha: float, margin: float
) -> Verdict:
    """How a test of two or more arms stands."""
    interval = share_interval if measure.share else time_interval
    arms = []
    for name, of in sums.items():
        low, high = interval(of, alpha / len(sums))
        arms.append(Arm(name, answers.get(name, 0), of.n, of.mean, low, high))
    winner = next(
        (one.name for one in arms if all(_beats(one, other, measure) for other in arms if other is not one)), None
    )
    close = all(one.high - other.low <= margin for one, other in permutations(arms, 2))
    alone = len(arms) < 2
    says: Says = "none yet" if alone else "winner" if winner is not None else "stop" if close else "none yet"
    return Verdict(says, None if alone else winner, tuple(arms))


def observed(entries: Iterable[Entry], measure: Measure, unit: Unit) -> tuple[dict[str, Sums], dict[str, int]]:
    """(sums, answers) of each arm. Of a user, who always has the same arm, the first observation counts alone: answers to one
    person are not independent of each other. With `request` each one counts."""
    sums: dict[str, Sums] = {}
    answers: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        assert entry.arm is not None
        sums.setdefault(entry.arm, Sums())
        answers[entry.arm] = answers.get(entry.arm, 0) + 1
        value = measure.of(entry)
        if value is None:
            continue
        if unit == "user" and entry.user is not None:
            if (entry.arm, entry.user) in seen:
                continue
            seen.add((entry.arm, entry.user))
        sums[entry.arm] = sums[entry.arm].plus(value)
    return sums, answers


def _beats(one: Arm, other: Arm, measure: Measure) -> bool:
    return one.low > other.high if measure.higher else one.high < other.low
