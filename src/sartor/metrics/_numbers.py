"""How scores are written for people: shares of rows in percent, everything else with three digits that matter."""

from __future__ import annotations

import math

MISSING = "–"


def score_text(value: float | None, share: bool) -> str:
    """0.873 as "87.3 %" where it is a share of rows, else "0.873"; 12.34 as "12.34"; 45678 as "45,678"."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{_percent(value)} %" if share else f"{value:,.{_places(value)}f}"


def difference_text(value: float | None, share: bool) -> str:
    """As `score_text` with its sign always shown; of shares the percentage points."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = _percent(abs(value)) if share else f"{abs(value):,.{_places(value)}f}"
    sign = "" if not text.strip("0.,") else "+" if value > 0 else "−"
    return sign + text


def range_text(low: float | None, high: float | None, share: bool) -> str:
    """Two bounds with their unit once: "25.8 to 43.1 %"."""
    return f"{score_text(low, share).removesuffix(' %')} to {score_text(high, share)}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}" if value in (0, 1) else f"{100 * value:.1f}"


def _places(value: float) -> int:
    size = abs(value)
    if size >= 1000:
        return 0
    if size >= 100:
        return 1
    return 2 if size >= 10 else 3
