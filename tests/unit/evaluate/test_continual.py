"""Average accuracy, backward transfer and forgetting against sums written out, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.evaluate.continual import average, backward_transfer, forgetting, told
from sartor.metrics._mean import Mean
from sartor.protocols import Outcome

HOLE = np.nan
SCORES = np.array([[0.9, HOLE, HOLE], [0.95, 0.8, HOLE], [0.6, 0.7, 0.85]])
"""The first task is known best after the second stage."""


def test_the_three_numbers_are_those_of_the_papers() -> None:
    assert average(SCORES) == pytest.approx((0.6 + 0.7 + 0.85) / 3)
    assert backward_transfer(SCORES) == pytest.approx(((0.6 - 0.9) + (0.7 - 0.8)) / 2)
    assert forgetting(SCORES) == pytest.approx(((0.95 - 0.6) + (0.8 - 0.7)) / 2)


def test_lower_is_better_turns_differences_round() -> None:
    assert backward_transfer(-SCORES, -1.0) == pytest.approx(backward_transfer(SCORES))
    assert forgetting(-SCORES, -1.0) == pytest.approx(forgetting(SCORES))


def test_many_matrices_at_once() -> None:
    both = np.stack([SCORES, SCORES - 0.1])
    assert forgetting(both) == pytest.approx([forgetting(SCORES)] * 2)
    assert average(both) == pytest.approx([average(SCORES), average(SCORES) - 0.1])


METRIC = Mean("right", lambda outcome: float(outcome.prediction == outcome.reference))


def outcomes(right: int, rows: int) -> list[Outcome]:
    return [Outcome(str(row), "?", "a", prediction="a" if row < right else "b") for row in range(rows)]


def body(rows: int = 100) -> dict:
    cells = {(0, 0): 90, (1, 0): 60, (1, 1): 80}
    given = {cell: outcomes(right * rows // 100, rows) for cell, right in cells.items()}
    return told(given, ["one", "two"], METRIC, confidence=0.95, resamples=500, seed=1)


def test_cells_and_numbers_have_intervals_that_hold_them() -> None:
    found = body()
    assert found["share"]
    assert [task["rows"] for task in found["tasks"]] == [100, 100]
    assert found["matrix"][0][1] is None
    assert [[cell and cell["value"] for cell in line] for line in found["matrix"]] == [[0.9, None], [0.6, 0.8]]
    assert found["forgetting"]["value"] == pytest.approx(0.3)
    assert found["backward_transfer"]["value"] == pytest.approx(-0.3)
    assert found["average"]["value"] == pytest.approx(0.7)
    for name in ("average", "backward_transfer", "forgetting"):
        one = found[name]
        assert one["low"] < one["value"] < one["high"]


def test_differences_are_paired_row_by_row() -> None:
    """30 of 100 rows were lost and none gained: the interval is that of one share, not of the difference of two."""
    one = body()["forgetting"]
    assert (one["high"] - one["low"]) / 2 == pytest.approx(1.96 * (0.3 * 0.7 / 100) ** 0.5, rel=0.15)


def test_more_rows_say_more() -> None:
    few, many = body(100)["average"], body(400)["average"]
    assert many["high"] - many["low"] < 0.7 * (few["high"] - few["low"])
