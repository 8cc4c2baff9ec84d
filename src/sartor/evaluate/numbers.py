"""How scores are written for people: shares of rows in percent, everything else with three digits that matter."""

from __future__ import annotations

import math

MISSING = "–"


def score_text(value: float | None, share: bool) -> str:
    """0.873 as "87.3 %" where it is a share of rows, else "0.873"; 12.34 as "12.3"; 45678 as "45,678"."""
    if value is None or not math.isfinite(value):
        return MISSING
    if share:
        return f"{_digits(100 * value, 1)} %"
    return _digits(value, _places(value))


def difference_text(value: float | None, share: bool) -> str:
    """As `score_text` with its sign always shown; shares in percentage points."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = _digits(100 * abs(value), 1) if share else _digits(abs(value), _places(value))
    if not text.strip("0.,"):
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def _places(value: float) -> int:
    size = abs(value)
    if size >= 1000:
        return 0
    if size >= 100:
        return 1
    return 2 if size >= 10 else 3


def _digits(value: float, places: int) -> str:
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text and float(text.replace(",", "")) == round(value) else text
