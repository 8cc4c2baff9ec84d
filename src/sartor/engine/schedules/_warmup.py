"""What all schedules share: a linear rise from zero at the start."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sartor.options import Options


class Warmup(Options):
    """Rise to the peak."""

    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps over which the rate rises linearly from zero to its peak."""


def rise(step: int, steps: int, warmup: float) -> tuple[float, float]:
    """(factor of the rise, how far the rest of training is done, 0 to 1) for the 1-based `step`."""
    rising = round(steps * warmup)
    if step <= rising:
        return step / (rising + 1), 0.0
    return 1.0, (step - 1 - rising) / max(1, steps - rising)
