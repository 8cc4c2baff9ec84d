"""Follows a stream of requests through one test per feature, and remembers where it stands."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sartor.monitor.alarms import Alarm, Noticed, after_text, alarm, before_text
from sartor.monitor.drift import EVERY, Detector, threshold
from sartor.monitor.features import Plan, Value, halves
from sartor.monitor.seen import Seen

REMEMBERED = 1000
"""Latest records that an alarm can show."""


@dataclass(slots=True)
class Watch:
    """A stream and its tests.

    Args:
        plan: what is watched.
        alpha: chance that a stable stream ever raises any alarm.
    """

    plan: Plan
    alpha: float
    detectors: dict[str, Detector]
    alarms: list[Alarm] = field(default_factory=list)
    requests: int = 0
    latest: float = 0.0
    """Time of the latest record."""
    recent: deque[Noticed] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @classmethod
    def of_reference(cls, fit: Sequence[Seen], compare: Sequence[Seen], outputs: Sequence[Seen], alpha: float) -> Watch:
        """A watch whose stream begins.

        Args:
            fit: records that say what is usual.
            compare: others from the same place, with which the stream is compared.
            outputs: records with the model's own answers, compared as well; of those in `compare` answers do not count then.
        """
        plan = Plan.fit(fit)
        watch = cls(plan, alpha, {each.name: Detector(each.name, each.side) for each in plan.features})
        for values in (*plan.values(compare), *plan.values(outputs)):
            for name, value in values.items():
                watch._learn(name, value)
        return watch

    @classmethod
    def of_beginning(cls, first: Sequence[Seen], alpha: float) -> Watch:
        """A watch that compares with the beginning of the stream itself."""
        fit, compare = halves(first)
        watch = cls.of_reference(fit, compare, (), alpha)
        watch.requests = sum(_asked(seen) for seen in first)
        watch.latest = max((seen.time or 0.0 for seen in first), default=0.0)
        return watch

    def take(self, records: Sequence[Seen]) -> list[Alarm]:
        """Go on with the stream; the alarms that are new."""
        noticed = []
        for seen, values in zip(records, self.plan.values(records), strict=True):
            self.requests += _asked(seen)
            self.latest = max(self.latest, seen.time or 0.0)
            noticed.append(Noticed(seen.id, seen.file, seen.at, seen.time, self.requests, values))
        return [found for at in range(0, len(noticed), EVERY) for found in self._step(noticed[at : at + EVERY])]

    @property
    def limit(self) -> float:
        """Logarithm of the capital at which a feature raises its alarm."""
        return threshold(self.alpha, len(self.detectors))

    def table(self) -> list[dict[str, Any]]:
        """Every feature: what was usual, what the latest values are, and how much speaks for a change (1: an alarm)."""
        standing = {found.feature for found in self.alarms}
        lines = []
        for feature in self.plan.features:
            detector = self.detectors[feature.name]
            values = [each.values[feature.name] for each in self.recent if feature.name in each.values]
            lines.append(
                {
                    "feature": feature.name,
                    "before": before_text(feature, detector),
                    "latest": after_text(feature, values),
                    "values": detector.n,
                    "evidence": round(max(0.0, detector.evidence / self.limit), 3),
                    "alarm": feature.name in standing,
                }
            )
        return lines

    def json(self) -> dict[str, Any]:
        """All of it but the plan, which does not change."""
        return {
            **{name: getattr(self, name) for name in ("alpha", "requests", "latest")},
            "detectors": [detector.json() for detector in self.detectors.values()],
            "alarms": [found.json() for found in self.alarms],
            "recent": [asdict(each) for each in self.recent],
        }

    @classmethod
    def of(cls, plan: Plan, body: Mapping[str, Any]) -> Watch:
        """As `json` gave it."""
        detectors = {each["name"]: Detector.of(each) for each in body["detectors"]}
        alarms = [Alarm.of(each) for each in body["alarms"]]
        recent = deque((Noticed(**each) for each in body["recent"]), maxlen=REMEMBERED)
        return cls(plan, body["alpha"], detectors, alarms, body["requests"], body["latest"], recent)

    def _step(self, noticed: Sequence[Noticed]) -> list[Alarm]:
        self.recent.extend(noticed)
        found = []
        for feature in self.plan.features:
            name = feature.name
            detector = self.detectors[name]
            having = [each for each in noticed if name in each.values]
            learnt = 0
            while learnt < len(having) and not detector.warm:
                self._learn(name, having[learnt].values[name])
                learnt += 1
            levels = [feature.level(each.values[name]) for each in having[learnt:]]
            place = detector.take(levels, self.limit)
            if place is not None and all(standing.feature != name for standing in self.alarms):
                known = [each for each in self.recent if name in each.values]
                evidence = detector.evidence - self.limit
                one = alarm(feature, detector, known, having[learnt + place], self.alpha, evidence)
                self.alarms.append(one)
                found.append(one)
        return found

    def _learn(self, name: str, value: Value) -> None:
        if name in self.detectors:
            feature = next(each for each in self.plan.features if each.name == name)
            self.detectors[name].learn(feature.level(value), 0.0 if isinstance(value, str) else value)


def _asked(seen: Seen) -> bool:
    """Whether it is a request, not something said of one."""
    return seen.prompt is not None or seen.answer is not None or seen.seconds is not None
