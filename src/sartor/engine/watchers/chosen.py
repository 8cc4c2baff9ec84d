"""Names the step where the better answers themselves have grown unlikely, as preference training can make them.

The differences it learns may come from both answers growing less likely, the worse one faster (C24 of the product's list of
known failures; Pal et al. 2024, arXiv:2402.13228).
"""

from __future__ import annotations

from sartor.events import Event, Validated
from sartor.protocols import Verdict

METRIC = "chosen_logp"
FALL = 0.5
"""Nats per token below the start from which it alarms: the answers are then e^-0.5 as likely per token."""


class Chosen:
    """Alarms once."""

    def __init__(self) -> None:
        self.start: float | None = None
        self.told = False

    def see(self, event: Event) -> Verdict | None:
        """A note when the log-probability of better answers has fallen by `FALL`."""
        if not isinstance(event, Validated) or METRIC not in event.metrics:
            return None
        now = event.metrics[METRIC]
        if self.start is None:
            self.start = now
        if self.told or not self.start - now > FALL:
            return None
        self.told = True
        return Verdict(
            note=f"the better answers have grown unlikely: {now:.2f} nats per token, {self.start:.2f} at the start; "
            "an sft term, a larger beta or a smaller learning rate holds them",
            code="N428",
        )


def build(metric: str, *, sign: float, min_delta: float, patience: int) -> Chosen:
    """The watcher; it always looks at the better answers."""
    return Chosen()
