from __future__ import annotations

import pytest

from sartor.evaluate.numbers import difference_text, range_text, score_text


@pytest.mark.parametrize(
    ("value", "share", "score", "difference"),
    [
        (0.8734, True, "87.3 %", "+87.3"),
        (1.0, True, "100 %", "+100"),
        (0.0, True, "0 %", "0"),
        (-0.0004, True, "-0.0 %", "0.0"),
        (0.8734, False, "0.873", "+0.873"),
        (-12.345, False, "-12.35", "−12.35"),
        (345.67, False, "345.7", "+345.7"),
        (45678.9, False, "45,679", "+45,679"),
        (None, True, "–", "–"),
        (float("nan"), False, "–", "–"),
    ],
)
def test_numbers(value: float | None, share: bool, score: str, difference: str) -> None:
    assert difference_text(value, share) == difference
    assert score_text(value, share) == score


def test_ranges_say_their_unit_once() -> None:
    assert range_text(0.25, 0.5, True) == "25.0 to 50.0 %"
    assert range_text(None, 0.5, False) == "– to 0.500"
