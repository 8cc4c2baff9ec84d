"""Takes an arm out of a test as soon as it is shown to break a bound: `error_rate<=0.05`, `thumb>=0.4`.

The arm's confidence sequence must exclude the bound on the wrong side. Every answer counts, also of the same user: a guard that comes a
little early costs a test, one that comes late costs users.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sartor.errors import InputError, Problem
from sartor.monitor.index import Entry
from sartor.monitor.measured import MEASURES
from sartor.monitor.records import Rollback
from sartor.monitor.sequential import Sums, log_evidence, share_interval

WRITTEN = re.compile(r"\s*([a-z_]+)\s*(<=|>=)\s*([0-9.]+)\s*")
ALPHA = 0.05
"""Chance that one guard ever takes out one arm that keeps its bound."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A bound that the mean of a metric keeps."""

    metric: str
    most: bool
    """Whether it is an upper bound."""
    bound: float

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.most else '>='}{self.bound:g}"

    def broken(self, sums: Sums) -> bool:
        """Whether observations show that the mean is beyond the bound."""
        mean = sums.mean
        if mean is None or (mean <= self.bound if self.most else mean >= self.bound):
            return False
        return log_evidence(sums, self.bound) >= -math.log(ALPHA)

    def value(self, entry: Entry) -> float | None:
        """What an answer says."""
        return MEASURES[self.metric].of(entry)


def parse(text: str) -> Guard:
    """`error_rate<=0.05`. Raises InputError V132."""
    shares = [name for name, measure in MEASURES.items() if measure.share]
    found = WRITTEN.fullmatch(text)
    try:
        bound = float(found[3]) if found else -1.0
    except ValueError:
        bound = -1.0
    if found is None or found[1] not in shares or not 0 < bound < 1:
        what = f'"{text}" is no guard'
        fix = f"METRIC<=BOUND or METRIC>=BOUND with one of {', '.join(shares)} and a bound between 0 and 1"
        raise InputError(Problem("V132", what, fix=fix))
    if (found[2] == "<=") == MEASURES[found[1]].higher:
        what = f'"{text}" would take out the better arm'
        fix = f"{found[1]}{'>=' if found[2] == '<=' else '<='}{bound:g}"
        raise InputError(Problem("V132", what, fix=fix))
    return Guard(found[1], found[2] == "<=", bound)


class Watch:
    """The guards over the arms of one test; any thread may tell it what has happened."""

    def __init__(self, ab: str, guards: Sequence[Guard]) -> None:
        self.ab, self._guards = ab, tuple(guards)
        self._sums: dict[tuple[str, Guard], Sums] = {}
        self._lock = threading.Lock()

    def see(self, entry: Entry, before: Entry | None = None) -> list[Rollback]:
        """A new answer, or one that more was said of than `before`: which guards of its arm are broken now.

        Of an answer the first that is said counts: who changes their mind is not two people.
        """
        if entry.arm is None or entry.ab != self.ab:
            return []
        broken = []
        with self._lock:
            for guard in self._guards:
                value = guard.value(entry)
                if value is None or (before is not None and guard.value(before) is not None):
                    continue
                sums = self._sums.get((entry.arm, guard), Sums()).plus(value)
                self._sums[entry.arm, guard] = sums
                if guard.broken(sums):
                    low, high = share_interval(sums, ALPHA)
                    broken.append(Rollback(self.ab, entry.arm, str(guard), entry.time, sums.n, low, high))
        return broken
