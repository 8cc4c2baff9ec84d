"""The best step among those that have not run away from the reference."""

from __future__ import annotations

from sartor.engine.watchers.best import Best
from sartor.events import Event, Validated
from sartor.protocols import Verdict


class Inside(Best):
    """As `Best`, but a step whose validation `kl` is above `bound` is none, whatever its metric."""

    def __init__(self, metric: str, bound: float, *, sign: float, min_delta: float) -> None:
        super().__init__(metric, sign=sign, min_delta=min_delta)
        self.bound = bound

    def see(self, event: Event) -> Verdict | None:
        """Compares at every validation within the bound."""
        if isinstance(event, Validated) and event.metrics["kl"] > self.bound:
            return None
        return super().see(event)
