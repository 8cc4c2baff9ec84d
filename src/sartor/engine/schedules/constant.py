"""The peak rate until the end, after the warm-up."""

from __future__ import annotations

from sartor.engine.schedules._warmup import Warmup, rise


class Options(Warmup):
    """Settings of the constant schedule."""


def factor(step: int, steps: int, options: Options) -> float:
    """Share of the peak rate at the 1-based `step` of `steps`."""
    return rise(step, steps, options.warmup)[0]
