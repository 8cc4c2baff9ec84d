"""An alarm: what moved, since when, from where to where, which rows moved most, and what to do next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sartor.monitor.drift import Detector
from sartor.monitor.features import Feature, Value, hashed

MOST_ROWS = 5
MOST_SHARES = 3


@dataclass(frozen=True, slots=True)
class Noticed:
    """What is remembered of a request; no texts."""

    id: str
    file: str
    at: int
    time: float | None
    number: int
    """Of the stream, from 1."""
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Moved:
    """A row that shows it."""

    id: str
    file: str
    at: int
    value: Value


@dataclass(frozen=True, slots=True)
class Alarm:
    """One feature that is no longer what it was."""

    id: str
    feature: str
    what: str
    number: int
    """The request of the stream, from 1, with which it became certain."""
    time: float | None
    since: int
    """About the request with which it began."""
    since_time: float | None
    before: str
    after: str
    chance: float
    """Of any alarm with that much evidence on a stable stream, at most."""
    rows: tuple[Moved, ...]
    next: str

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Alarm:
        """As `json` gave it."""
        return cls(**{**body, "rows": tuple(Moved(**row) for row in body["rows"])})


def alarm(
    feature: Feature, detector: Detector, recent: Sequence[Noticed], crossing: Noticed, alpha: float, evidence: float
) -> Alarm:
    """The alarm of a detector that has just reached its threshold.

    Args:
        recent: the latest records that have the feature, the crossing one among them.
        evidence: natural logarithm of the capital, less that of the threshold.
    """
    late = recent[-max(1, min(len(recent), detector.n - detector.since)) :]
    values = [each.values[feature.name] for each in late]
    first = late[0]
    return Alarm(
        id=f"{hashed(f'{feature.name}:{crossing.id}:{crossing.number}'):013x}",
        feature=feature.name,
        what=feature.what,
        number=crossing.number,
        time=crossing.time,
        since=first.number,
        since_time=first.time,
        before=before_text(feature, detector),
        after=after_text(feature, values),
        chance=alpha * math.exp(-max(0.0, evidence)),
        rows=tuple(
            Moved(each.id, each.file, each.at, each.values[feature.name]) for each in _most(feature, detector, late)
        ),
        next=feature.next,
    )


def before_text(feature: Feature, detector: Detector) -> str:
    """What was usual: a mean, or the largest shares."""
    count = detector.reference.total()
    if not count:
        return "not known yet"
    if feature.side == "category":
        return _shares(Counter({str(level): many for level, many in detector.reference.items()}))
    return _number(feature, detector.total / count)


def after_text(feature: Feature, values: Sequence[Value]) -> str:
    """What it is of some values."""
    if not values:
        return "not known yet"
    if feature.side == "category":
        return _shares(Counter(map(str, values)))
    return _number(feature, sum(map(float, values)) / len(values))


def value_text(feature: Feature, value: Value) -> str:
    """One value."""
    return value if isinstance(value, str) else _number(feature, value)


def _number(feature: Feature, value: float) -> str:
    return f"{value:,.3g}" if feature.grid == "share" else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _shares(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {100 * many / counts.total():.0f} %" for name, many in counts.most_common(MOST_SHARES))


def _most(feature: Feature, detector: Detector, late: Sequence[Noticed]) -> list[Noticed]:
    """The records since the change that are furthest from what was usual."""
    name = feature.name
    count = max(1, detector.reference.total())
    if feature.side == "category":
        now = Counter(each.values[name] for each in late)
        gain = {level: many / len(late) - detector.reference[str(level)] / count for level, many in now.items()}
        return sorted(late, key=lambda each: -gain[each.values[name]])[:MOST_ROWS]
    usual = detector.total / count
    mean = sum(float(each.values[name]) for each in late) / len(late)
    up = feature.side == "more" or (feature.side == "both" and mean >= usual)
    return sorted(late, key=lambda each: -float(each.values[name]) if up else float(each.values[name]))[:MOST_ROWS]
