"""What the request log holds, one JSON object per line.

{"kind": "answer", "id": "chatcmpl-5f...", "time": 1764000000.2, "model": "tuned", "arm": "tuned", "user": "9c1e...", ...}
{"kind": "feedback", "of": "chatcmpl-5f...", "time": 1764000031.0, "thumb": "down", "correction": "Your lamp ships today."}
{"kind": "rollback", "ab": "ab", "arm": "tuned", "guard": "error_rate<=0.05", "time": ..., "n": 61, "low": 0.06, "high": 0.31}
{"kind": "removed", "why": "user", "time": ..., "answers": 12, "feedback": 3}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

FAULTS = ("late", "fault")
"""Ends of an answer that are errors of ours."""
LEFT = ("gone", "closing")
"""Ends that say nothing of the model: the client left, or the server was stopped."""


@dataclass(frozen=True, slots=True)
class Record:
    """One answer, or several to the same prompt."""

    id: str
    time: float
    """Seconds since 1970 when it was over."""
    route: str
    model: str
    """Which has answered."""
    arm: str | None
    """Of a test; None outside of one."""
    ab: str | None
    """Name of that test."""
    user: str | None
    """Keyed hash of what the client named the user."""
    messages: tuple[Mapping[str, str], ...] | None
    """Role and content, redacted; None where its texts were not drawn."""
    answers: tuple[str, ...] | None
    ended: tuple[str, ...]
    """stop, length, late, fault, gone or closing, of each answer."""
    prompt_tokens: int
    made: int
    """Tokens of all answers."""
    seconds: float
    shadow_of: str | None = None
    """The request that was answered by another model; nobody was sent this answer."""

    def json(self) -> dict[str, Any]:
        """As it is written."""
        return {"kind": "answer", **asdict(self)}

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Record:
        """As it was written."""
        fields = {name: value for name, value in line.items() if name != "kind"}
        for name in ("messages", "answers", "ended"):
            fields[name] = None if fields[name] is None else tuple(fields[name])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody said of an answer."""

    of: str
    """Id of the record."""
    time: float
    thumb: Literal["up", "down"] | None = None
    score: float | None = None
    """0 to 1."""
    correction: str | None = None
    """What the answer should have been."""
    comment: str | None = None

    def json(self) -> dict[str, Any]:
        """As it is written: what was said alone."""
        return {"kind": "feedback"} | {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Feedback:
        """As it was written."""
        return cls(**{name: value for name, value in line.items() if name != "kind"})

    def then(self, later: Feedback) -> Feedback:
        """Both as one: of each field the later counts."""
        said = {name: value for name, value in asdict(later).items() if value is not None}
        return Feedback(**{**asdict(self), **said})


@dataclass(frozen=True, slots=True)
class Rollback:
    """An arm gets no more requests, because a guard has shown that it is worse than it may be."""

    ab: str
    arm: str
    guard: str
    time: float
    n: int
    low: float
    high: float

    def json(self) -> dict[str, Any]:
        """As it is written."""
        return {"kind": "rollback", **asdict(self)}
