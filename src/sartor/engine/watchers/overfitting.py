"""Names the step where validation loss turned upwards while training loss went on falling."""

from __future__ import annotations

from sartor.events import Event, Validated
from sartor.protocols import Verdict

RISES = 2
"""Validations above the lowest, one after the other, before the alarm."""
MARGIN = 0.01
"""Share by which validation loss must have risen, so that noise does not alarm."""


class Overfitting:
    """Alarms once for each lowest point."""

    def __init__(self) -> None:
        self.low = float("inf")
        self.low_step, self.rises = 0, 0
        self.train_at_low = float("inf")

    def see(self, event: Event) -> Verdict | None:
        """A note when validation has risen and training has not."""
        if not isinstance(event, Validated):
            return None
        loss = event.metrics["loss"]
        if loss < self.low:
            self.low, self.low_step, self.rises = loss, event.step, 0
            self.train_at_low = event.train_loss
            return None
        self.rises += 1
        falling = not event.train_loss >= self.train_at_low
        if self.rises != RISES or not falling or loss < self.low * (1 + MARGIN):
            return None
        return Verdict(
            note=f"overfitting: validation loss turned at step {self.low_step} ({self.low:.3f}, now {loss:.3f}) "
            f"while training loss went on falling to {event.train_loss:.3f}",
            code="N411",
        )


def build(metric: str, *, sign: float, min_delta: float, patience: int) -> Overfitting:
    """The watcher; it always looks at the loss."""
    return Overfitting()
