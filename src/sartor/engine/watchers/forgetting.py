"""Names the step where general ability has fallen by more than is allowed, and stops there where that is wanted.

Forgetting what is not trained goes on as long as training does (McCloskey and Cohen 1989), often after the task has stopped gaining.
The questions asked at each validation are few: the fall has to be beyond the bound by 1.64 standard errors, taken to be those of the
score itself, which is exact where scores before and after correlate by one half. The verdict is the measure, this a first sign.
"""

from __future__ import annotations

from sartor.events import Event, Validated
from sartor.protocols import Verdict

METRIC = "general"
ERROR = "general_error"
"""Standard error of the score."""
SURE = 1.64
"""Standard errors: 95 % on one side."""
BOUND = 0.05
"""How much the score may fall where nothing else is said."""


class Forgetting:
    """Alarms once, at the first validation whose score is surely more than `bound` below that of the first one."""

    def __init__(self, bound: float, *, stop: bool) -> None:
        self.bound, self.stop = bound, stop
        self.start: float | None = None
        self.told = False

    def see(self, event: Event) -> Verdict | None:
        """A note, and a stop where that is wanted."""
        if not isinstance(event, Validated) or METRIC not in event.metrics:
            return None
        now = event.metrics[METRIC]
        if self.start is None:
            self.start = now
        if self.told or not self.start - now > self.bound + SURE * event.metrics[ERROR]:
            return None
        self.told = True
        note = f"general ability has fallen from {self.start:.3f} to {now:.3f}, by more than {self.bound:g}"
        hint = "" if self.stop else "; replay, an anchor or a smaller learning rate hold it"
        return Verdict(stop=self.stop, note=note + hint, code="N416")


def build(metric: str, *, sign: float, min_delta: float, patience: int) -> Forgetting:
    """The watcher as it is where nothing is said; it always looks at general ability."""
    return Forgetting(BOUND, stop=False)
