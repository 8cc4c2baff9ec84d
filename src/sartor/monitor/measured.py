"""What an arm of a test can be measured by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sartor.monitor.index import Entry
from sartor.monitor.records import FAULTS, LEFT


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of answers."""

    of: Callable[[Entry], float | None]
    """None where an answer says nothing."""
    higher: bool
    """Whether more is better."""
    share: bool
    """Whether it lies in [0, 1]."""
    margin: float
    """The smallest difference that would matter."""


def _left(entry: Entry) -> bool:
    return any(ended in LEFT for ended in entry.ended)


def _thumb(entry: Entry) -> float | None:
    return None if entry.thumb is None else float(entry.thumb == "up")


def _seconds(entry: Entry) -> float | None:
    return entry.seconds if all(ended in ("stop", "length") for ended in entry.ended) else None


def _by_itself(entry: Entry) -> float | None:
    return None if _left(entry) else entry.ended.count("stop") / len(entry.ended)


def _errors(entry: Entry) -> float | None:
    failed = any(ended in FAULTS for ended in entry.ended)
    return None if _left(entry) and not failed else float(failed)


MEASURES: Mapping[str, Measure] = {
    "thumb": Measure(_thumb, higher=True, share=True, margin=0.05),
    "score": Measure(lambda entry: entry.score, higher=True, share=True, margin=0.05),
    "seconds": Measure(_seconds, higher=False, share=False, margin=0.1),
    "ended": Measure(_by_itself, higher=True, share=True, margin=0.05),
    "error_rate": Measure(_errors, higher=False, share=True, margin=0.02),
}
"""thumb: share of thumbs up; score: mean; seconds of whole answers; ended: share that ended by itself; error_rate: late or at fault."""
