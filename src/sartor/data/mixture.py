"""How much of each source an epoch takes: shares of the tokens, not of the rows, met to within a row.

An epoch takes a source's rows in shuffled passes that go on where the epoch before has stopped, so that no row comes again
before all others of its source have come as often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.groups import Rows


def demands(tokens: Sequence[int], weights: Sequence[float | None], temperature: float = 1.0) -> NDArray[np.float64]:
    """[sources] tokens that an epoch takes of each source.

    A source with a weight makes up that share of the epoch; the others share what is left of it in proportion to
    tokens^(1/temperature) (Arivazhagan et al. 2019, section 4.2), and an epoch takes as many tokens of them as they have.
    Where all sources have weights these are relative, and an epoch takes as many tokens as there are.

    Raises ValueError where the weights leave nothing for the others.
    """
    held = np.asarray(tokens, np.float64)
    given = np.array([np.nan if weight is None else weight for weight in weights])
    given[held == 0] = np.where(np.isnan(given[held == 0]), np.nan, 0.0)
    free = np.isnan(given)
    natural = held[free].sum()
    if not natural:
        given[free] = 0.0
        relative: NDArray[np.float64] = held.sum() * given / given.sum()
        return relative
    fixed = float(given[~free].sum())
    if fixed >= 1:
        raise ValueError(f"the weights add up to {fixed:g}, which leaves nothing for the sources without a weight")
    scaled = held[free] ** (1 / temperature)
    result: NDArray[np.float64] = given * natural / (1 - fixed)
    result[free] = natural * scaled / scaled.sum()
    return result


@dataclass(frozen=True)
class Mixture:
    """The training rows of every epoch.

    Args:
        lengths: [n] tokens of each row.
        source: [n] number of each row's source.
        demand: [sources] tokens that an epoch takes of it.
        seed: decides the order of the rows of a source.
    """

    lengths: NDArray[np.int64]
    source: NDArray[np.int64]
    demand: NDArray[np.float64]
    seed: int

    def rows(self, epoch: int) -> Rows:
        """The rows of an epoch, source by source; a row that is taken twice is there twice."""
        return np.concatenate([self._taken(number, epoch) for number in range(len(self.demand))])

    @cached_property
    def _members(self) -> list[Rows]:
        return [np.flatnonzero(self.source == number) for number in range(len(self.demand))]

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """[sources] tokens there are."""
        return np.array([int(self.lengths[members].sum()) for members in self._members])

    def _taken(self, number: int, epoch: int) -> Rows:
        """The rows whose first token lies in the epoch's stretch of the endless sequence of passes."""
        members, held = self._members[number], int(self.tokens[number])
        begin, end = epoch * self.demand[number], (epoch + 1) * self.demand[number]
        if not held or end <= begin:
            return members[:0]
        parts = []
        for turn in range(int(begin // held), int(np.ceil(end / held))):
            order = members[np.random.default_rng([self.seed, 5, number, turn]).permutation(len(members))]
            starts = np.cumsum(self.lengths[order]) - self.lengths[order] + turn * held
            parts.append(order[(starts >= begin) & (starts < end)])
        return np.concatenate(parts)

    def json(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """What an epoch takes of each source: its rows and tokens, its share of the epoch, passes over it."""
        total = float(self.demand.sum())
        return [
            {
                "source": name,
                "rows": len(members),
                "tokens": int(held),
                "tokens_an_epoch": round(float(demand)),
                "share": float(demand) / total if total else 0.0,
                "passes_an_epoch": float(demand) / int(held) if held else 0.0,
            }
            for name, members, held, demand in zip(names, self._members, self.tokens, self.demand, strict=True)
        ]


def class_weights(
    labels: NDArray[np.integer[Any]], names: Sequence[str], wanted: str | dict[str, float]
) -> NDArray[np.float32]:
    """[n] how much each row counts in the loss, by its label (-1: no label, which counts 1).

    `balanced` gives every label that occurs the same weight in all, and rows a mean of 1: n / (labels * rows of the label), as
    scikit-learn's compute_class_weight does. A mapping names the weight of labels; others count 1.
    """
    by_label = np.ones(len(names) + 1, np.float64)
    if isinstance(wanted, dict):
        for name, weight in wanted.items():
            by_label[list(names).index(name)] = weight
    elif wanted == "balanced":
        counts = np.bincount(labels[labels >= 0], minlength=len(names))
        present = np.flatnonzero(counts)
        by_label[present] = counts.sum() / (len(present) * counts[present])
    result: NDArray[np.float32] = by_label.astype(np.float32)[labels]
    return result
