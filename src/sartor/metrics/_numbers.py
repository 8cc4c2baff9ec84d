"""How scores are written for people: shares of rows in percent, everything else with three digits that matter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

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


def comparison_cells(comparison: Mapping[str, Any], escaped: Callable[[str], str]) -> list[list[str]]:
    """A comparison as JSON in lines of cells, the first of them the head: each metric of every model, and the differences.

    `escaped` is given the names, which may be a user's.
    """
    models, subject = comparison["models"], comparison["subject"]
    others = [model for model in models if model != subject]
    lines = [["metric", *map(escaped, models), *(escaped(f"{subject} − {model}") for model in others)]]
    for metric in comparison["metrics"]:
        cells = [_score_cell(metric["scores"].get(model), metric["share"]) for model in models]
        cells += [_difference_cell(metric["differences"].get(model), metric["share"]) for model in others]
        lines.append([f"{escaped(metric['name'])} {'↑' if metric['higher_is_better'] else '↓'}", *cells])
    return lines


def _score_cell(score: Mapping[str, Any] | None, share: bool) -> str:
    if score is None:
        return MISSING
    return f"{score_text(score['value'], share)} [{range_text(score['low'], score['high'], share)}]"


def _difference_cell(difference: Mapping[str, Any] | None, share: bool) -> str:
    if difference is None:
        return MISSING
    low, high = difference_text(difference["low"], share), difference_text(difference["high"], share)
    return f"{difference_text(difference['value'], share)} [{low} to {high}] {difference['word']}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}" if value in (0, 1) else f"{100 * value:.1f}"


def _places(value: float) -> int:
    size = abs(value)
    if size >= 1000:
        return 0
    if size >= 100:
        return 1
    return 2 if size >= 10 else 3
