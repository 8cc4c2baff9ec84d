"""Pictures of a report as inline SVG without scripts or styles of their own: learning curves, interval bars, shares.

Colours come from the page by class, so that a dark page has dark pictures. Lengths are SVG user units.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from sartor.console import printable
from sartor.evaluate.numbers import score_text

Points = Sequence[tuple[float, float]]

MOST_POINTS = 240
"""Points drawn of a curve; more are averaged in equal groups."""
MARKED = 30
"""Points up to which each point of a line is marked."""
LOGARITHMIC_FROM = 30.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""


def curve(
    train: Points,
    validation: Points,
    *,
    chosen: int | None,
    turned: int | None,
    width: int,
    height: int,
    label: str = "loss",
) -> Markup:
    """Training and validation loss over steps, the step whose weights were kept, and where validation turned.

    Points are (step, value); those without a finite value are left out. `label` is what the values are. Empty where there is
    nothing to draw.
    """
    steady, checked = _thin(_finite(train)), _finite(validation)
    every = [*steady, *checked]
    if not every:
        return Markup("")
    left, right, top, bottom = 44, 14, 26, 34
    steps = _axis(min(x for x, _ in every), max(x for x, _ in every))
    lowest, highest = min(y for _, y in every), max(y for _, y in every)
    logarithmic = lowest > 0 and highest / lowest > LOGARITHMIC_FROM
    scale = math.log if logarithmic else float
    losses = _decades(lowest, highest) if logarithmic else _ticks(lowest, highest, 4)
    low, high = scale(losses[0]), scale(losses[-1])

    def x(step: float) -> float:
        return left + (width - left - right) * (step - steps[0]) / (steps[1] - steps[0])

    def y(loss: float) -> float:
        return height - bottom - (height - top - bottom) * (scale(loss) - low) / (high - low)

    parts = []
    if turned is not None and steps[0] <= turned <= steps[1]:
        parts.append(
            _tag(
                "rect", x=x(turned), y=top, width=x(steps[1]) - x(turned), height=height - top - bottom, class_="turned"
            )
        )
    for loss in losses:
        parts.append(_tag("line", x1=left, x2=width - right, y1=y(loss), y2=y(loss), class_="grid"))
        parts.append(_tag("text", f"{loss:g}", x=left - 8, y=y(loss) + 4, class_="tick end"))
    marks = [step for step in _ticks(*steps, 8 if width > 500 else 4) if steps[0] <= step <= steps[1]]
    parts += [_tag("text", f"{step:,g}", x=x(step), y=height - bottom + 18, class_="tick middle") for step in marks]
    parts.append(_tag("text", f"{label}, logarithmic" if logarithmic else label, x=left, y=height - 2, class_="tick"))
    parts.append(_tag("text", "step", x=width - right, y=height - 2, class_="tick end"))
    if len(steady) > 1:
        parts.append(_tag("polyline", points=_path((x(a), y(b)) for a, b in steady), class_="line train"))
    if len(checked) > 1:
        parts.append(_tag("polyline", points=_path((x(a), y(b)) for a, b in checked), class_="line validation"))
    for a, b in [*checked, *(steady if len(steady) == 1 else [])]:
        kind = "dot kept" if a == chosen else "dot"
        parts.append(_tag("circle", cx=x(a), cy=y(b), r=5 if a == chosen else 3, class_=kind))
    if chosen is not None and steps[0] <= chosen <= steps[1]:
        parts.append(_tag("line", x1=x(chosen), x2=x(chosen), y1=top, y2=height - bottom, class_="kept"))
        parts.append(_flag(x(chosen), left, width - right, top - 9, f"kept: step {chosen:,}"))
    return _svg(width, height, parts, f"{label} in training and validation over optimiser steps")


def front(
    points: Sequence[Mapping[str, Any]],
    chosen: float,
    task: Mapping[str, Any],
    general: Mapping[str, Any],
    *,
    width: int,
    height: int,
) -> Markup:
    """General ability over a task for mixtures of two models, better to the right and up; those that none beats are joined.

    Points have alpha, task, general and front; an axis whose lower values are better runs backwards.
    """
    known = [point for point in points if point["task"] is not None and point["general"] is not None]
    if not known:
        return Markup("")
    left, right, top, bottom = 64, 40, 34, 44
    across = _ticks(min(each["task"] for each in known), max(each["task"] for each in known), 6)
    upward = _ticks(min(each["general"] for each in known), max(each["general"] for each in known), 5)

    def x(value: float) -> float:
        share = (value - across[0]) / (across[-1] - across[0])
        return left + (width - left - right) * (share if task["higher_is_better"] else 1 - share)

    def y(value: float) -> float:
        share = (value - upward[0]) / (upward[-1] - upward[0])
        return height - bottom - (height - top - bottom) * (share if general["higher_is_better"] else 1 - share)

    parts = []
    for value in upward:
        parts.append(_tag("line", x1=left, x2=width - right, y1=y(value), y2=y(value), class_="grid"))
        text = score_text(value, True) if general["share"] else f"{value:,g}"
        parts.append(_tag("text", text, x=left - 8, y=y(value) + 4, class_="tick end"))
    for value in across:
        text = score_text(value, True) if task["share"] else f"{value:,g}"
        parts.append(_tag("text", text, x=x(value), y=height - bottom + 18, class_="tick middle"))
    parts.append(_tag("text", general["metric"], x=left, y=top - 16, class_="tick"))
    parts.append(_tag("text", task["metric"], x=width - right, y=height - 4, class_="tick end"))
    places = [(x(each["task"]), y(each["general"])) for each in known]
    best = sorted(place for place, each in zip(places, known, strict=True) if each["front"])
    parts.append(_tag("polyline", points=_path(places), class_="trail"))
    parts.append(_tag("polyline", points=_path(best), class_="edge"))
    for (a, b), each in zip(places, known, strict=True):
        kept = each["alpha"] == chosen
        kind = "dot kept" if kept else "dot" if each["front"] else "beaten"
        parts.append(_tag("circle", cx=a, cy=b, r=6 if kept else 4, class_=kind))
        named = {0: "base", 1: "tuned"}.get(each["alpha"], f"{each['alpha']:g}" if kept else "")
        parts.append(_tag("text", named, x=a, y=b - 10, class_="name middle"))
    return _svg(width, height, parts, f"{general['metric']} over {task['metric']} between base and tuned model")


def pair(
    task: Points,
    general: Points,
    *,
    chosen: int | None,
    floor: float | None,
    label: str,
    width: int,
    height: int,
) -> Markup:
    """A task (left axis) and general ability (right axis) over steps, the step that was kept, and how low the second may fall."""
    ours, theirs = _finite(task), _finite(general)
    if not ours or not theirs:
        return Markup("")
    left, right, top, bottom = 48, 48, 26, 40
    steps = _axis(min(a for a, _ in [*ours, *theirs]), max(a for a, _ in [*ours, *theirs]))
    first = _Scale([b for _, b in ours], top, height - bottom)
    second = _Scale([*(b for _, b in theirs), *([] if floor is None else [floor])], top, height - bottom)

    def x(step: float) -> float:
        return left + (width - left - right) * (step - steps[0]) / (steps[1] - steps[0])

    parts = []
    for mark in first.marks:
        parts.append(_tag("line", x1=left, x2=width - right, y1=first(mark), y2=first(mark), class_="grid"))
        parts.append(_tag("text", f"{mark:g}", x=left - 8, y=first(mark) + 4, class_="tick end"))
    parts += [
        _tag("text", f"{mark:g}", x=width - right + 8, y=second(mark) + 4, class_="tick") for mark in second.marks
    ]
    marks = [step for step in _ticks(*steps, 8 if width > 500 else 4) if steps[0] <= step <= steps[1]]
    parts += [_tag("text", f"{step:,g}", x=x(step), y=height - bottom + 18, class_="tick middle") for step in marks]
    parts.append(_tag("text", first.told(label), x=left, y=height - 4, class_="tick"))
    parts.append(_tag("text", "general ability", x=width - right, y=height - 4, class_="tick end"))
    if floor is not None:
        parts.append(_tag("line", x1=left, x2=width - right, y1=second(floor), y2=second(floor), class_="floor"))
    for points, scale, kind in ((ours, first, "series-1"), (theirs, second, "series-2")):
        parts.append(_tag("polyline", points=_path((x(a), scale(b)) for a, b in points), class_=f"line {kind}"))
        parts += [_tag("circle", cx=x(a), cy=scale(b), r=3, class_=f"dot {kind}") for a, b in points]
    if chosen is not None and steps[0] <= chosen <= steps[1]:
        parts.append(_tag("line", x1=x(chosen), x2=x(chosen), y1=top, y2=height - bottom, class_="kept"))
        parts.append(_flag(x(chosen), left, width - right, top - 9, f"kept: step {chosen:,}"))
    return _svg(width, height, parts, f"{label} and general ability on validation over optimiser steps")


def places(told: Mapping[str, Any], *, width: int, height: int) -> Markup:
    """General ability over the task for every place that could be the model; `told` is steering.json. Better is right and up.

    Points within the bound are full; the line joins those that no other one beats.
    """
    known = [point for point in told["points"] if point["task"] is not None]
    if not known:
        return Markup("")
    left, right, top, bottom = 52, 30, 30, 40
    floor = told["base"] - told["drop_at_most"]
    across = _Scale([point["task"] for point in known], left, width - right, turned=told["higher_is_better"], ratio=5)
    upward = _Scale([*(point["general"] for point in known), told["base"], floor], top, height - bottom)
    parts = []
    for mark in upward.marks:
        parts.append(_tag("line", x1=left, x2=width - right, y1=upward(mark), y2=upward(mark), class_="grid"))
        parts.append(_tag("text", f"{mark:g}", x=left - 8, y=upward(mark) + 4, class_="tick end"))
    parts += [
        _tag("text", f"{mark:g}", x=across(mark), y=height - bottom + 18, class_="tick middle") for mark in across.marks
    ]
    for value, name in ((told["base"], "base"), (floor, "least")):
        parts.append(_tag("line", x1=left, x2=width - right, y1=upward(value), y2=upward(value), class_="floor"))
        parts.append(_tag("text", name, x=left + 4, y=upward(value) - 4, class_="tick"))
    parts.append(_tag("text", across.told(told["metric"]), x=width - right, y=height - 4, class_="tick end"))
    parts.append(_tag("text", "general ability", x=left, y=top - 14, class_="tick"))
    best = sorted((across(point["task"]), upward(point["general"])) for point in known if point["front"])
    parts.append(_tag("polyline", points=_path(best), class_="line series-1"))
    for point in known:
        a, b = across(point["task"]), upward(point["general"])
        taken = told["chosen"] == {"step": point["step"], "alpha": point["alpha"]}
        kind = "dot kept" if taken else "dot" if point["fits"] else "beyond"
        parts.append(_tag("circle", cx=a, cy=b, r=6 if taken else 4, class_=kind))
        if taken:
            name = f"step {point['step']:,}" + (f" × {point['alpha']:g}" if point["alpha"] < 1 else "")
            parts.append(_flag(a, left, width - right, b - 10, name))
    return _svg(width, height, parts, f"general ability over {told['metric']} for every place that could be the model")


class _Scale:
    """An axis from a low to a high place of a picture; logarithmic where its values ask for it."""

    def __init__(
        self,
        values: Sequence[float],
        low: float,
        high: float,
        *,
        turned: bool | None = None,
        ratio: float = LOGARITHMIC_FROM,
    ) -> None:
        """`turned` None: an upward axis, whose largest value is at `low`; else whether higher values are at `high`.

        `ratio`: of the largest to the smallest value, from which it is logarithmic.
        """
        least, most = min(values), max(values)
        self.logarithmic = least > 0 and most / least > ratio
        self.marks = _decades(least, most) if self.logarithmic else _ticks(least, most, 4)
        self._scale = math.log if self.logarithmic else float
        self._ends = (low, high) if turned else (high, low)

    def __call__(self, value: float) -> float:
        first, last = self._scale(self.marks[0]), self._scale(self.marks[-1])
        return self._ends[0] + (self._ends[1] - self._ends[0]) * (self._scale(value) - first) / (last - first)

    def told(self, label: str) -> str:
        """The label, and what kind of axis it is."""
        return f"{label}, logarithmic" if self.logarithmic else label


def chart(told: Mapping[str, Any], *, width: int, height: int) -> Markup:
    """Lines or points of several series on common axes; `told` is `Chart.json()`. Points that are not finite are left out."""
    lines = {name: _finite([(a, b) for a, b in points]) for name, points in told["series"].items()}
    every = [point for points in lines.values() for point in points]
    if not every:
        return Markup("")
    left, right, top, bottom = 48, 14, 12, 46
    across = _ticks(min(a for a, _ in every), max(a for a, _ in every), 4)
    up = _ticks(min(b for _, b in every), max(b for _, b in every), 4)

    def x(value: float) -> float:
        return left + (width - left - right) * (value - across[0]) / (across[-1] - across[0])

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * (value - up[0]) / (up[-1] - up[0])

    parts = []
    for mark in up:
        parts.append(_tag("line", x1=left, x2=width - right, y1=y(mark), y2=y(mark), class_="grid"))
        parts.append(_tag("text", f"{mark:g}", x=left - 8, y=y(mark) + 4, class_="tick end"))
    parts += [_tag("text", f"{mark:g}", x=x(mark), y=height - bottom + 18, class_="tick middle") for mark in across]
    parts.append(_tag("text", told["x"], x=width - right, y=height - 6, class_="tick end"))
    parts.append(_tag("text", told["y"], x=left, y=height - 6, class_="tick"))
    if told["diagonal"]:
        low, high = max(across[0], up[0]), min(across[-1], up[-1])
        parts.append(_tag("line", x1=x(low), x2=x(high), y1=y(low), y2=y(high), class_="whisker"))
    for number, (name, points) in enumerate(lines.items()):
        if told["kind"] == "line" and len(points) > 1:
            parts.append(
                _tag("polyline", points=_path((x(a), y(b)) for a, b in points), class_=f"line {series(name, number)}")
            )
        if told["kind"] == "points" or len(points) < MARKED:
            parts += [_tag("circle", cx=x(a), cy=y(b), r=3, class_=f"dot {series(name, number)}") for a, b in points]
    return _svg(width, height, parts, f"{told['title']}: {told['y']} over {told['x']}")


def series(name: str, number: int) -> str:
    """The class of a line: base and tuned have the colours they have everywhere, others those that are left."""
    named = {"base": "series-0", "tuned": "series-1", "few_shot": "series-2"}
    return named.get(name, f"series-{2 + number % 2}")


def bars(scores: Mapping[str, Mapping[str, Any]], *, share: bool, width: int = 240) -> Markup:
    """One line per model: its interval with the value as a dot, all on one axis from the lowest to the highest bound."""
    known = {
        model: (score["low"], score["value"], score["high"])
        for model, score in scores.items()
        if None not in (score["low"], score["value"], score["high"])
    }
    if not known:
        return Markup("")
    low, high = min(min(bounds) for bounds in known.values()), max(max(bounds) for bounds in known.values())
    if share:
        low, high = 0.0, 1.0
    logarithmic = low > 0 and high / low > LOGARITHMIC_FROM
    scale = math.log if logarithmic else float
    pad, row = 7, 14
    reach = scale(high) - scale(low)

    def x(value: float) -> float:
        return pad + (width - 2 * pad) * ((scale(value) - scale(low)) / reach if reach else 0.5)

    height = row * len(known) + 16
    parts = [_tag("line", x1=pad, x2=width - pad, y1=height - 14, y2=height - 14, class_="grid")]
    for index, (model, (lower, value, upper)) in enumerate(known.items()):
        y = row * index + 8
        kind = f"model-{index}" if model != "tuned" else "model-tuned"
        parts.append(_tag("line", x1=x(lower), x2=x(upper), y1=y, y2=y, class_=f"whisker {kind}"))
        parts.append(_tag("circle", cx=x(value), cy=y, r=4.5, class_=f"point {kind}"))
    parts.append(_tag("text", score_text(low, share), x=pad, y=height - 2, class_="tick"))
    middle = "logarithmic" if logarithmic else ""
    parts.append(_tag("text", middle, x=width / 2, y=height - 2, class_="tick middle"))
    parts.append(_tag("text", score_text(high, share), x=width - pad, y=height - 2, class_="tick end"))
    named = ", ".join(f"{model} {score_text(value, share)}" for model, (_, value, _) in known.items())
    return _svg(width, height, parts, f"Intervals: {named}")


def shares(parts: Mapping[str, int], *, width: int = 640) -> Markup:
    """One bar divided in the proportion of the counts."""
    total = sum(parts.values())
    if not total:
        return Markup("")
    drawn, start = [], 0.0
    for index, count in enumerate(parts.values()):
        size = width * count / total
        drawn.append(_tag("rect", x=start, y=0, width=max(size - 2, 0), height=10, rx=2, class_=f"part part-{index}"))
        start += size
    return _svg(width, 10, drawn, ", ".join(f"{name} {count:,}" for name, count in parts.items()))


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(step, loss) for step, loss in points if loss is not None and math.isfinite(loss)]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(len(points) / MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(a for a, _ in group) / len(group), sum(b for _, b in group) / len(group)) for group in groups]


def _axis(low: float, high: float) -> tuple[float, float]:
    return (low - 1, high + 1) if low == high else (low, high)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that cover low to high in about `count` steps of 1, 2 or 5 times a power of ten."""
    low, high = _axis(low, high)
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that cover low to high; only the powers where there would be more than nine."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [round(factor * 10.0**power, 12 - power) for power in powers for factor in (1, 2, 5)]
    first = max(index for index, mark in enumerate(marks) if mark <= low * (1 + 1e-9))
    last = min(index for index, mark in enumerate(marks) if mark >= high * (1 - 1e-9))
    found = marks[first : last + 1]
    return found if len(found) <= 9 else [10.0**power for power in powers]


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _flag(at: float, left: float, right: float, y: float, text: str) -> Markup:
    reach = 3.6 * len(text)
    anchor = "end" if at + reach > right else "start" if at - reach < left else "middle"
    return _tag("text", text, x=at, y=y, class_=f"flag {anchor}")


def _svg(width: float, height: float, parts: Iterable[Markup], label: str) -> Markup:
    inner = Markup("").join(parts)
    return Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>').format(
        round(width), round(height), round(width), round(height), printable(label), inner
    )


def _tag(name: str, text: str = "", **attributes: float | str) -> Markup:
    given = Markup(" ").join(
        Markup('{}="{}"').format(key.rstrip("_"), f"{value:.1f}" if isinstance(value, float) else value)
        for key, value in attributes.items()
    )
    return Markup("<{name} {given}>{text}</{name}>").format(name=name, given=given, text=escape(printable(text)))
