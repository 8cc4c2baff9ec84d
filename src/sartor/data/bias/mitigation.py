"""Weights under which a label no longer depends on the group, and the difference before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.bias.disparity import Disparity, Table
from sartor.errors import Problem

MOST = 10.0
"""Largest weight of a row: a cell with next to no rows must not carry the loss."""


def reweighed(table: Table, attribute: str) -> NDArray[np.float64]:
    """[n] weights of Kamiran and Calders 2012, "Data preprocessing techniques for classification without discrimination".

    w = P(group) P(label) / P(group, label) among rows that name one group and have a label, so that the weighted shares of
    labels are the same in every group; other rows count 1. Raises KeyError where nothing is known of the attribute.
    """
    number = next((n for n, each in enumerate(table.attributes) if each.name == attribute), None)
    if number is None:
        raise KeyError(attribute)
    group, label = table.group[number], table.label
    ours = np.flatnonzero((group >= 0) & (label >= 0))
    weight = np.ones(len(group))
    cells = np.zeros((len(table.attributes[number].groups), len(table.labels)))
    np.add.at(cells, (group[ours], label[ours]), 1)
    expected = cells.sum(axis=1, keepdims=True) * cells.sum(axis=0, keepdims=True) / max(1, len(ours))
    factor = np.minimum(expected / np.maximum(cells, 1), MOST)
    weight[ours] = factor[group[ours], label[ours]]
    return weight


def told(before: Sequence[Disparity], after: Sequence[Disparity], how: str, file: str) -> Iterator[Problem]:
    """S402 for each difference that was flagged: how large it was and is."""
    known = {each.key: each for each in after}
    for each in before:
        now = known.get(each.key)
        if not each.flagged or now is None:
            continue
        what = (
            f"{each.attribute}, {each.group} and {each.others}: {outcome_name(each)} differs by {size(each)}, "
            f"after {how} by {size(now)}"
        )
        smaller = abs(now.effect) < abs(each.effect)
        fix = (
            "nothing needs doing; measure the tuned model as well"
            if smaller
            else "it has not become smaller: see docs/how-to/bias.md"
        )
        yield Problem("S402", what, file=file, fix=fix, level="info" if smaller else "warning")


def outcome_name(each: Disparity) -> str:
    """the share of "hired", of refusals; the sentiment; the length."""
    names: dict[str, str] = {
        "label": f'the share of "{each.label}"',
        "refusal": "the share of refusals",
        "sentiment": "the sentiment",
        "length": "the length of answers",
    }
    return names[each.outcome]


def size(each: Disparity) -> str:
    """-31 points, +0.41 on the scale from -1 to 1, or a factor of 0.6."""
    if each.outcome in ("label", "refusal"):
        return f"{100 * each.difference:+.0f} points"
    return f"a factor of {each.difference:.2f}" if each.outcome == "length" else f"{each.difference:+.2f}"


def bounds(each: Disparity) -> str:
    """The interval in the same unit."""
    scale, form = (
        (100, "+.0f") if each.outcome in ("label", "refusal") else (1, ".2f" if each.outcome == "length" else "+.2f")
    )
    low, high = (format(scale * bound, form) for bound in (each.low, each.high))
    return f"[{low}, {high}]"


def finding(each: Disparity, file: str, line: int, rows: tuple[int, ...], comparisons: int) -> Problem:
    """S401: one difference, with its interval and how many comparisons were made."""
    shown: Any = f"{each.here:.0%} of {each.count:,}", f"{each.there:.0%} of {each.count_others:,}"
    if each.outcome == "sentiment":
        shown = f"{each.here:+.2f} in {each.count:,}", f"{each.there:+.2f} in {each.count_others:,}"
    elif each.outcome == "length":
        shown = f"{each.here - 1:.0f} words in {each.count:,}", f"{each.there - 1:.0f} words in {each.count_others:,}"
    what = (
        f"{each.attribute}: {outcome_name(each)} is {shown[0]} rows about {each.group}, {shown[1]} about {each.others}: "
        f"{size(each)} {bounds(each)}, q {each.q:.2g} of {comparisons} comparisons"
    )
    fix = (
        f"look whether it is meant; augment: [{{counterfactual: {{attribute: {each.attribute}}}}}], "
        f"clean: [{{balance_groups: {each.attribute}}}] or bias: {{reweigh: {each.attribute}}} even it out"
    )
    return Problem("S401", what, file=file, line=line, rows=rows, fix=fix, level="warning")
