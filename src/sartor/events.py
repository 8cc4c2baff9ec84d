"""What happens during a run, as plain records. The engine yields them; watchers, trackers and displays consume them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; `kind` is its name in events.jsonl."""

    kind: ClassVar[str] = "event"

    def json(self) -> dict[str, Any]:
        """A JSON object; non-finite numbers become null so that every log line stays valid JSON."""
        return {"event": self.kind, **{key: _finite(value) for key, value in asdict(self).items()}}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Stage(Event):
    """A part of the run begins: data, baseline, train, evaluate ..."""

    kind: ClassVar[str] = "stage"
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """Training begins or resumes at `step` of `steps`."""

    kind: ClassVar[str] = "started"
    step: int
    steps: int
    epochs: float
    trainable: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Stepped(Event):
    """One optimiser step. `loss` is the mean over what it counts (supervised tokens, rows, pairs), as are `metrics`; `tokens`
    counts all, `supervised` those with loss."""

    kind: ClassVar[str] = "step"
    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    supervised: int
    seconds: float
    memory_bytes: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rolled(Event):
    """The policy has written a round of answers after `step`. `metrics` are means over them: reward, kl (nats an answer away from
    the reference), tokens, unfinished, repetition, distinct, entropy, and the penalty for drifting in force."""

    kind: ClassVar[str] = "round"
    step: int
    round: int
    answers: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Validated(Event):
    """Validation after `step`; `metrics` holds at least `loss`."""

    kind: ClassVar[str] = "validation"
    step: int
    epoch: float
    metrics: dict[str, float]
    train_loss: float
    """Mean training loss since the last validation."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Saved(Event):
    """A checkpoint was published."""

    kind: ClassVar[str] = "saved"
    step: int
    path: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class Noted(Event):
    """Something the user should know; a downgrade, a skip, an alarm."""

    kind: ClassVar[str] = "note"
    level: str
    code: str
    message: str
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Progressed(Event):
    """Long work other than training moved on: `done` of `total` units."""

    kind: ClassVar[str] = "progress"
    task: str
    done: int
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """Training ended. `step` is the last one taken, `best_step` the one whose weights are kept."""

    kind: ClassVar[str] = "finished"
    step: int
    best_step: int
    reason: str
    tokens: int
    supervised: int
    seconds: float
    peak_memory_bytes: int


def line(event: Event, time: float) -> str:
    """The line of events.jsonl for an event that happened at `time` (seconds since the epoch)."""
    return json.dumps({"time": round(time, 3), **event.json()}, ensure_ascii=False, allow_nan=False)
