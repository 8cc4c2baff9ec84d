"""Keeps the step whose validation metric is the best so far."""

from __future__ import annotations

from sartor.events import Event, Validated
from sartor.protocols import Verdict


class Best:
    """Remembers the best value of `metric` and says `keep` at each new one."""

    def __init__(self, metric: str, *, sign: float, min_delta: float) -> None:
        self.metric, self.sign, self.min_delta = metric, sign, min_delta
        self.value: float | None = None
        self.step = 0

    def see(self, event: Event) -> Verdict | None:
        """Compares at every validation; `sign` is +1 where higher is better, -1 where lower is."""
        if not isinstance(event, Validated):
            return None
        value = self.sign * event.metrics[self.metric]
        if self.value is None or value > self.value + self.min_delta:
            self.value, self.step = value, event.step
            return Verdict(keep=True)
        return None


def build(metric: str, *, sign: float, min_delta: float, patience: int) -> Best:
    """The watcher for a metric."""
    return Best(metric, sign=sign, min_delta=min_delta)
