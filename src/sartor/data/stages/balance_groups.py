"""Leaves out rows until every group of people has each label equally often.

    clean: [{balance_groups: gender}]

Looked at are rows with a label whose prompt names one group of the attribute (Sartor's lists of terms). For every label each
group keeps as many rows as the group with the fewest; which rows stay is decided by their content. Groups with few rows in all
are left out of account, since they would cost most of the data. Rows given for validation or test stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sartor.data.bias.mentions import Finder
from sartor.data.dataset import Dataset, by_content
from sartor.data.outcome import Drop, Outcome, Short
from sartor.data.terms import own
from sartor.data.wording import asked

__all__ = ["Options", "decide"]

Roles = NDArray[np.int8]


class Options(Short):
    """Which groups."""

    main: ClassVar[str] = "attribute"

    attribute: Literal["gender", "origin", "religion", "age", "ability", "orientation"] = "gender"
    """What people differ in."""
    least: Annotated[int, Field(ge=1)] = 20
    """A group with fewer labelled rows than this is left out of account."""


def decide(
    dataset: Dataset, roles: Roles, options: Options, seen: Callable[[int], None]
) -> Iterator[tuple[int, Outcome]]:
    """Drops rows; changes none."""
    finder = Finder([terms for terms in own() if terms.attribute == options.attribute])
    label, group = dataset.index.label, np.full(len(dataset), -1, np.int64)
    for number in np.flatnonzero((label >= 0) & (roles <= 0)).tolist():
        (named,) = finder.mentions(asked(dataset[number]))
        if len(named) == 1:
            (group[number],) = named
    seen(len(dataset))
    groups = [each for each in range(len(finder.attributes[0].groups)) if (group == each).sum() >= options.least]
    if len(groups) < 2:
        return
    dropped = np.zeros(len(dataset), np.bool_)
    order = by_content(dataset.index.content)
    for code in range(len(dataset.labels)):
        cells = [order[(group[order] == each) & (label[order] == code)] for each in groups]
        most = min(map(len, cells))
        for cell in cells:
            dropped[cell[most:]] = True
    reason = f"its group ({options.attribute}) has more rows with this label than another"
    yield from ((int(number), Drop(reason)) for number in np.flatnonzero(dropped))
