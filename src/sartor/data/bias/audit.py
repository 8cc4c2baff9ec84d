"""Runs the comparison over training rows, tells what was found, and again after rows were made or weighed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sartor.data.bias.disparity import Disparity, Table, disparities, gather
from sartor.data.bias.mentions import Finder
from sartor.data.bias.mitigation import finding, reweighed, told
from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.groups import Rows
from sartor.data.similarity import silent
from sartor.data.split import PARTS, Splits
from sartor.data.terms import known
from sartor.errors import DataError, Problem
from sartor.recipe.schema import Bias

LISTED = 1000
"""Further lines kept of a finding."""


def look(dataset: Dataset, rows: Rows, splits: Splits, bias: Bias, root: Path, seen: Callable[[int], None]) -> Table:
    """What is known of some rows. Raises DataError D198 for a list of terms that is none."""
    return gather(dataset, rows, splits.clusters.alike, Finder(known(bias.files, root)), seen)


def audit(
    dataset: Dataset, splits: Splits, bias: Bias, root: Path, findings: Findings, seen: Callable[[int], None] = silent
) -> list[Disparity]:
    """Compare the training rows, and add S401 for every difference that is flagged. Returns every comparison."""
    table = look(dataset, splits.indices(PARTS[0]), splits, bias, root, seen)
    found = disparities(table, bias.level)
    for each in found:
        if each.flagged:
            origin = dataset.origin(each.example)
            lines = _lines(dataset, table, each)
            findings.add(finding(each, origin.file, origin.line, lines, len(found)))
    return found


def compare(
    before: Sequence[Disparity],
    dataset: Dataset,
    splits: Splits,
    bias: Bias,
    root: Path,
    findings: Findings,
    *,
    how: str,
    file: str,
) -> None:
    """Add S402 for every difference that was flagged, as it is after augmentation and weighing."""
    if not any(each.flagged for each in before):
        return
    table = look(dataset, splits.indices(PARTS[0]), splits, bias, root, silent)
    weight = None if bias.reweigh is None else _weights(table, bias)
    for problem in told(before, disparities(table, bias.level, weight), how, file):
        findings.add(problem)


def weights(dataset: Dataset, rows: Rows, splits: Splits, bias: Bias, root: Path) -> NDArray[np.float32] | None:
    """[k] how much each of these rows counts in the loss by `data.bias.reweigh`; None where it is not set.

    Raises DataError D198, and S403 where there is nothing to weigh by.
    """
    if bias.reweigh is None:
        return None
    return _weights(look(dataset, rows, splits, bias, root, silent), bias).astype(np.float32)


def _weights(table: Table, bias: Bias) -> NDArray[np.float64]:
    assert bias.reweigh is not None
    having = ", ".join(sorted({each.name for each in table.attributes}))
    if bias.reweigh not in {each.name for each in table.attributes}:
        what = f"data.bias.reweigh names {bias.reweigh}, of which there is no list of terms"
        raise DataError(
            Problem("S403", what, fix=f"one of {having}, or name a list of yours by   bias: {{terms: FILE}}")
        )
    result = reweighed(table, bias.reweigh)
    if (result == 1).all():
        what = f"data.bias.reweigh: {bias.reweigh} changes nothing: no training row has a label and names one group"
        if not (table.label >= 0).any():
            what = f"data.bias.reweigh: {bias.reweigh} weighs labels, and the rows have none"
        raise DataError(Problem("S403", what, fix="remove it; rows with labels that name groups can be weighed"))
    return result


def _lines(dataset: Dataset, table: Table, each: Disparity) -> tuple[int, ...]:
    """Lines of further rows about the group, in the file of the example."""
    number = next(
        n for n, one in enumerate(table.attributes) if one.name == each.attribute and each.group in one.groups
    )
    about = table.rows[table.group[number] == table.attributes[number].groups.index(each.group)]
    same = (dataset.index.file[about] == dataset.index.file[each.example]) & (about != each.example)
    return tuple(int(line) for line in dataset.index.line[about[same][:LISTED]])
