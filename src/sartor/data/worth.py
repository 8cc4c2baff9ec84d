"""What a training row is worth, judged by its loss in models that have seen it and in models that have not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.groups import Rows
from sartor.data.similarity import mixed

KINDS = {
    "mislabelled": "models that have not seen the row find its answer far less likely than answers of this kind usually are",
    "unlearnable": "its loss hardly falls even where it is trained on",
    "memorised": "only models that have seen it get it: others do not learn it from the other rows",
    "redundant": "models that have not seen it do as well on it as models that have",
}
SUSPICIOUS = 4.0
"""Robust deviations above the usual held-out loss from which an answer is suspicious."""
FALLEN = 0.1
"""Share of the base model's loss that training on a row must take away, else it is unlearnable; probability, or less, of a label
that a model that has not seen the row does not know."""
GAINED = 0.02
"""Share of the base model's loss, or less, that seeing the row itself adds: then it is redundant."""
LEARNT = 0.5
"""Share of the base model's loss, or less, that is left of a row that was learnt; probability, or more, of a label that was."""


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Losses of n rows in nats: of the whole answer for labelled rows, else per token.

    `seen` and `unseen` are [epochs + 1, n]: the mean over the models that did, and did not, train on the row, before training and
    after each epoch.
    """

    seen: NDArray[np.float64]
    unseen: NDArray[np.float64]

    @property
    def best(self) -> int:
        """The epoch with the lowest mean loss on unseen rows."""
        return int(np.argmin(self.unseen.mean(axis=1)))

    @property
    def memorisation(self) -> NDArray[np.float64]:
        """[n] how much likelier the answer is, in nats, to models that have seen the row (Feldman & Zhang 2020, equation 1, in logarithms)."""
        result: NDArray[np.float64] = self.unseen[-1] - self.seen[-1]
        return result

    def suspicion(self, group: NDArray[np.int32] | None = None) -> NDArray[np.float64]:
        """[n] robust deviations of the loss on unseen rows from what is usual, within each group (a label) of five rows or more.

        The self-confidence of confident learning, adjusted for labels of different difficulty (Northcutt et al. 2021,
        section 3.2). The epoch is the one before models begin to learn wrong answers by heart.
        """
        loss = self.unseen[self.best]
        result = _deviations(loss)
        if group is not None:
            for code in np.unique(group):
                members = np.flatnonzero(group == code)
                if len(members) >= 5:
                    result[members] = (loss[members] - np.median(loss[members])) / _spread(loss)
        return result

    def kinds(self, group: NDArray[np.int32] | None = None) -> NDArray[np.str_]:
        """[n] the first of `KINDS` that holds, or empty for rows that teach what others need.

        With labels, what is learnt and what is not is told by the probability of the label, otherwise by the share of the
        base model's loss that is left: free text never becomes certain.
        """
        base, seen, unseen = np.maximum(self.unseen[0], 1e-9), self.seen[-1], self.unseen[-1]
        if group is None:
            memorised = (seen <= LEARNT * base) & (unseen > (1 - FALLEN) * base)
            redundant = (unseen <= LEARNT * base) & (unseen - seen <= GAINED * base)
        else:
            memorised = (np.exp(-seen) >= LEARNT) & (np.exp(-unseen) <= FALLEN)
            redundant = np.exp(-unseen) >= np.maximum(LEARNT, (1 - FALLEN) * np.exp(-seen))
        tests: Mapping[str, NDArray[np.bool_]] = {
            "mislabelled": self.suspicion(group) >= SUSPICIOUS,
            "unlearnable": base - seen < FALLEN * base,
            "memorised": memorised,
            "redundant": redundant,
        }
        found = np.full(len(base), "", dtype="<U12")
        for name in reversed(list(KINDS)):
            found[tests[name]] = name
        return found


def _deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (values - np.median(values)) / _spread(values)
    return result


def _spread(values: NDArray[np.float64]) -> float:
    """A standard deviation that outliers do not move: 1.4826 times the median distance from the median."""
    found = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    return found or float(values.std()) or 1.0


def folds(
    cluster: NDArray[np.int32], content: NDArray[np.uint64], weight: NDArray[np.int64], count: int, seed: int
) -> Rows:
    """[n] the fold of each row, 0..count-1, about equal in weight; rows of a cluster stay together, whatever the order of rows.

    Args:
        cluster: [n] clusters of rows that say the same.
        content: [n] first words of the rows' content hashes.
        weight: [n] e.g. tokens.
    """
    names, member = np.unique(cluster, return_inverse=True)
    first = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, member, mixed(content, seed))
    heavy = np.bincount(member, weight, len(names))
    load, fold = np.zeros(count), np.empty(len(names), np.int64)
    for number in np.argsort(first, kind="stable").tolist():
        fold[number] = int(np.argmin(load))
        load[fold[number]] += heavy[number]
    result: Rows = fold[member]
    return result


def ranked(scores: Sequence[float] | NDArray[np.float64]) -> Rows:
    """Rows by falling score, equal ones as they stand."""
    order: Rows = np.argsort(-np.asarray(scores), kind="stable")
    return order


def summary(kinds: NDArray[np.str_]) -> dict[str, Any]:
    """How many rows are of each kind."""
    return {name: int((kinds == name).sum()) for name in KINDS}
