"""Puts labels right: joins those that mean the same, leaves out those that do not matter, finds those that are misspelt.

    clean: [labels]
    clean: [{labels: {merge: {cancelled: cancel}, drop: [neutral, other], repair: true}}]

First labels are merged; then misspelt ones are found: one or two slips of the hand away from a label that is used at least ten
times as often, itself used at most twice; or equal to a more frequent one but for case, spaces and signs (the same rule
as the check D161). Without `repair` they are suggestions. At last the rows under a label in `drop` go. Rows without a label stay.

A rare label that is meant, and resembles a frequent one, looks like a slip: look before you repair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from pydantic import Field

from sartor.data.cleaning import Roles
from sartor.data.dataset import Dataset
from sartor.data.formats._fields import nearest
from sartor.data.outcome import Drop, Outcome, Suggestion, with_label
from sartor.data.rows import Example
from sartor.data.slips import LABELS, OFTEN, RARE, folded, is_slip
from sartor.errors import DataError, Problem
from sartor.options import Options as Settings

__all__ = ["Options", "decide"]


class Options(Settings):
    """Which labels become which, and which rows go."""

    merge: dict[str, str] = Field(default_factory=dict)
    """Label -> the label that takes its place."""
    drop: tuple[str, ...] = ()
    """Labels whose rows go."""
    repair: bool = False
    """Correct misspelt labels instead of suggesting it."""


def decide(
    dataset: Dataset, roles: Roles, options: Options, seen: Callable[[int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Changes and drops labelled rows. Raises DataError D183 for a label in `merge` or `drop` that no row has."""
    codes, names = dataset.index.label, dataset.labels
    counted = np.bincount(codes[codes >= 0], minlength=len(names))
    counts: dict[str, int] = {}
    for name, count in zip(names, counted.tolist(), strict=True):
        if count:
            merged = options.merge.get(name, name)
            counts[merged] = counts.get(merged, 0) + count
    _require_known(options, {names[code] for code in np.flatnonzero(counted)} | set(counts))
    meant = _meant(counts)
    for row in np.flatnonzero(codes >= 0).tolist():
        label = names[codes[row]]
        new = options.merge.get(label, label)
        right = meant.get(new, new)
        if (right if options.repair else new) in options.drop:
            yield row, Drop(f'label "{right if options.repair else new}" is not wanted')
        elif options.repair and right != label:
            yield row, with_label(_example(dataset, row), right)
        elif new != label:
            yield row, with_label(_example(dataset, row), new)
        elif right != label:
            yield row, Suggestion(with_label(_example(dataset, row), right), f'label "{label}" -> "{right}"')
    seen(len(dataset))


def _example(dataset: Dataset, number: int) -> Example:
    row = dataset[number]
    assert isinstance(row, Example), "only examples have labels"
    return row


def _meant(counts: Mapping[str, int]) -> dict[str, str]:
    """Misspelt label -> the label it should be."""
    used = sorted(counts, key=lambda label: (-counts[label], label))
    if not 2 <= len(used) <= LABELS:
        return {}
    meant = {}
    for label in used:
        alike = next((other for other in used if other != label and folded(other) == folded(label)), None)
        near = None
        if counts[label] <= RARE:
            near = next((o for o in used if counts[o] >= OFTEN * counts[label] and is_slip(label, o)), None)
        if near is None and alike is not None and counts[alike] > counts[label]:
            near = alike
        if near is not None:
            meant[label] = near
    return {label: meant.get(right, right) for label, right in meant.items()}


def _require_known(options: Options, known: set[str]) -> None:
    for key, given in (("merge", options.merge), ("drop", options.drop)):
        for label in given:
            if label not in known:
                near = nearest(label, sorted(known))
                hint = f'; did you mean "{near}"?' if near else ""
                what = f'clean.labels.{key} names the label "{label}", which no row has{hint}'
                fix = "labels are told apart to the letter; `sartor data check` lists those of the data"
                raise DataError(Problem("D183", what, fix=fix))
