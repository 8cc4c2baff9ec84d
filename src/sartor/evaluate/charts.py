"""The charts of a comparison: those that its metrics draw themselves, and how the scores of single rows are spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sartor.evaluate.compare import is_share, measured_by
from sartor.evaluate.suites import Pictured
from sartor.protocols import Chart, Metric, Outcome

MOST = 100
"""Points of a line."""


def charts(outcomes: Mapping[str, Sequence[Outcome]], metrics: Sequence[Metric]) -> list[Chart]:
    """All of them; a model that lacks what a metric needs is left out of its chart. Of the main metric alone, the spread."""
    found: list[Chart] = []
    for place, metric in enumerate(metrics):
        known = {model: rows for model, rows in outcomes.items() if measured_by(metric, rows)}
        if known and isinstance(metric, Pictured):
            found += metric.charts(known)
        if known and not place:
            found += _spread(metric, known)
    return found


def _spread(metric: Metric, known: Mapping[str, Sequence[Outcome]]) -> Iterator[Chart]:
    each = {model: metric.combine(metric.stats(rows)) for model, rows in known.items()}
    total = {model: float(metric.combine(metric.stats(rows).sum(axis=0))) for model, rows in known.items()}
    plain = all(is_share(values, total[model]) for model, values in each.items())
    if plain or any(len(values) < 2 or not np.isfinite(values).any() for values in each.values()):
        return
    if any(len(np.unique(values[np.isfinite(values)])) > 2 for values in each.values()):
        yield spread(metric.name, each)


def spread(name: str, each: Mapping[str, np.ndarray]) -> Chart:
    """The share of rows that score at most x, for every model: [n] the metric of each row alone."""
    series = {}
    for model, values in each.items():
        known = np.sort(values[np.isfinite(values)])
        places = np.unique(np.linspace(0, len(known) - 1, min(MOST, len(known))).round().astype(int))
        series[model] = [(float(known[place]), (int(place) + 1) / len(known)) for place in places]
    return Chart(f"{name} of single rows", name, "share of rows at most there", series)
