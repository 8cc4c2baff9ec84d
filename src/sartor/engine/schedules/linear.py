"""Falls in a straight line from the peak to `floor` of it, after the warm-up."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sartor.engine.schedules._warmup import Warmup, rise


class Options(Warmup):
    """Settings of the linear schedule."""

    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the peak that is left at the end."""


def factor(step: int, steps: int, options: Options) -> float:
    """Share of the peak rate at the 1-based `step` of `steps`."""
    rising, done = rise(step, steps, options.warmup)
    return rising * (1 - (1 - options.floor) * done)
