"""Stops when the validation metric has not improved for `patience` validations (Prechelt 1998, criterion UP)."""

from __future__ import annotations

from sartor.engine.watchers.best import Best
from sartor.events import Event, Validated
from sartor.protocols import Verdict


class EarlyStop:
    """Counts validations since the best one."""

    def __init__(self, best: Best, patience: int) -> None:
        self.best, self.patience, self.waited = best, patience, 0

    def see(self, event: Event) -> Verdict | None:
        """A stop once `patience` validations in a row brought nothing new; patience 0 never stops."""
        if not isinstance(event, Validated):
            return None
        self.waited = 0 if self.best.see(event) else self.waited + 1
        if not self.patience or self.waited < self.patience:
            return None
        note = f"validation {self.best.metric} has not improved {self.waited} times in a row; best at step {self.best.step}"
        return Verdict(stop=True, note=note, code="N410")


def build(metric: str, *, sign: float, min_delta: float, patience: int) -> EarlyStop:
    """The watcher for a metric."""
    return EarlyStop(Best(metric, sign=sign, min_delta=min_delta), patience)
