"""Falls along half a cosine from the peak to `floor` of it, after the warm-up (Loshchilov and Hutter 2017, equation 5)."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from sartor.engine.schedules._warmup import Warmup, rise


class Options(Warmup):
    """Settings of the cosine schedule."""

    floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the peak that is left at the end."""


def factor(step: int, steps: int, options: Options) -> float:
    """Share of the peak rate at the 1-based `step` of `steps`."""
    rising, done = rise(step, steps, options.warmup)
    return rising * (options.floor + (1 - options.floor) * 0.5 * (1 + math.cos(math.pi * done)))
