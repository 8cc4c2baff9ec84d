"""Which points between two models nothing beats, which one is recommended, and the picture of them."""

from __future__ import annotations

import math
import random
import re

import pytest

from sartor.evaluate.front import Axes, Point, front, recommended
from sartor.evaluate.front_page import front_page

UP = Axes(1.0, 1.0)
LINE = [
    Point(0.0, 0.2, 0.9),
    Point(0.25, 0.5, 0.89),
    Point(0.5, 0.6, 0.95),
    Point(0.75, 0.8, 0.7),
    Point(1.0, 0.7, 0.4),
]


def test_the_front_is_what_nothing_beats() -> None:
    assert [point.alpha for point in front(LINE, UP)] == [0.5, 0.75]
    assert [point.alpha for point in front(LINE, Axes(-1.0, 1.0))] == [0.0, 0.5]
    assert [point.alpha for point in front(LINE, Axes(1.0, -1.0))] == [0.75, 1.0]
    same = [Point(0.0, 0.5, 0.5), Point(1.0, 0.5, 0.5)]
    assert front(same, UP) == same


def test_the_front_is_that_of_brute_force() -> None:
    draw = random.Random(3)
    points = [Point(number, draw.randrange(6), draw.randrange(6)) for number in range(40)]
    left = {
        point.alpha
        for point in points
        if not any(
            other.task >= point.task and other.general >= point.general and (other.task, other.general) != (point.task, point.general)
            for other in points
        )
    }  # fmt: skip
    assert {point.alpha for point in front(points, UP)} == left


def test_points_without_a_number_are_left_out() -> None:
    assert front([Point(0.0, math.nan, 1.0), Point(1.0, 0.1, 0.1)], UP) == [Point(1.0, 0.1, 0.1)]


@pytest.mark.parametrize(("drop", "alpha"), [(0.0, 0.5), (0.1, 0.5), (0.2, 0.75), (1.0, 0.75)])
def test_the_best_within_the_bound_is_recommended(drop: float, alpha: float) -> None:
    assert recommended(LINE, UP, drop_at_most=drop).alpha == alpha
    worse = [Point(point.alpha, -point.task, -point.general) for point in LINE]
    assert recommended(worse, Axes(-1.0, -1.0), drop_at_most=drop).alpha == alpha


def test_the_base_is_recommended_where_everything_else_forgets() -> None:
    points = [Point(0.0, 0.1, 0.9), Point(0.5, 0.9, 0.5), Point(1.0, 0.8, 0.4)]
    assert recommended(points, UP, drop_at_most=0.1).alpha == 0
    lost = [Point(0.0, math.nan, 0.9), Point(1.0, 0.8, 0.4)]
    assert recommended(lost, UP, drop_at_most=0.1).alpha == 0


def found(**changes) -> dict:
    side = {"metric": "exact_match", "higher_is_better": True, "share": True, "data": "probe", "rows": 9}
    points = [{"alpha": p.alpha, "task": p.task, "general": p.general, "front": p in front(LINE, UP)} for p in LINE]
    body = {"run": "runs/<b>", "task": side, "general": {**side, "metric": "perplexity", "share": False}, "points": points,
            "drop_at_most": 0.2, "recommended": 0.75}  # fmt: skip
    return body | changes


def test_the_page_holds_itself_and_shows_text_as_text() -> None:
    page = front_page(found())
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "runs/&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<circle") == len(LINE)
    assert "Take alpha 0.75" in page
    missing = [{**point, "task": None} for point in found()["points"]]
    assert "<circle" not in front_page(found(points=missing))


def test_better_is_right_and_up_whatever_the_metric() -> None:
    def places(page: str) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', page)]

    up = places(front_page(found()))
    turned = [{**point, "task": 1 - point["task"]} for point in found()["points"]]
    down = places(front_page(found(points=turned, task={**found()["task"], "higher_is_better": False})))
    assert up[0][0] < up[1][0] < up[3][0]
    assert down[0][0] < down[1][0] < down[3][0]
    assert up[2][1] < up[0][1] < up[4][1]
