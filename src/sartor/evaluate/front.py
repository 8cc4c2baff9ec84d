"""What a mixture of two models trades: a task against general ability, which points nothing beats, and which one to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """Two scores at one place between base (alpha 0) and tuned model (alpha 1)."""

    alpha: float
    task: float
    general: float


@dataclass(frozen=True, slots=True)
class Axes:
    """Which way is better, +1 up or -1 down, for each of the two scores."""

    task: float
    general: float

    def gains(self, point: Point) -> tuple[float, float]:
        """Both scores, turned so that more is better."""
        return self.task * point.task, self.general * point.general


def front(points: Sequence[Point], axes: Axes) -> list[Point]:
    """The points that no other one beats in one score without losing in the other (Pareto); in their order."""
    known = [point for point in points if math.isfinite(point.task) and math.isfinite(point.general)]
    return [point for point in known if not any(_beats(axes.gains(other), axes.gains(point)) for other in known)]


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def recommended(points: Sequence[Point], axes: Axes, *, drop_at_most: float) -> Point:
    """The best in the task of those whose general score is worse than that of alpha 0 by at most `drop_at_most`.

    Of equals the one nearest to the base. `points` holds alpha 0, which always qualifies.
    """
    start = next(point for point in points if point.alpha == 0)
    floor = axes.general * start.general - drop_at_most
    fitting = [point for point in front(points, axes) if axes.general * point.general >= floor - 1e-12] or [start]
    return max(fitting, key=lambda point: (axes.task * point.task, -point.alpha))
