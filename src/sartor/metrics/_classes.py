"""Counts per class, from which precision, recall and F1 follow; a class is a different reference answer of the test set.

Where a row may have several labels, each of them is a class, and is counted by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sartor.errors import InputError, Problem
from sartor.metrics._answers import choices, rights
from sartor.metrics._confusion import confusion, per_class
from sartor.metrics._mean import ratio
from sartor.protocols import Outcome, Table

MOST = 1000
"""Different reference answers up to which they are taken for classes."""


@dataclass(frozen=True, slots=True)
class ByClass:
    """A score from true positives, false positives and false negatives per class.

    Statistics per row: [C, 3] flattened. Only classes of the references count: a free-text answer that is no class is a
    miss of the right class, and does not become a class of its own.
    """

    name: str
    score: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """tp, fp, fn, each [..., C] -> [...]"""
    higher_is_better: bool = True
    needs: str = "label"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 3 C]. Raises InputError E103 where the references are no classes."""
        classes = known(self.name, outcomes)
        place = {name: index for index, name in enumerate(classes)}
        counts = np.zeros((len(outcomes), len(classes), 3))
        for row, outcome in enumerate(outcomes):
            truth = {place[name] for name in rights(outcome)}
            guess = {place[name] for name in choices(outcome) if name in place}
            for kind, members in enumerate((truth & guess, guess - truth, truth - guess)):
                counts[row, list(members), kind] = 1
        return counts.reshape(len(outcomes), 3 * len(classes))

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 3 C] -> [...]"""
        counts = sums.reshape(*sums.shape[:-1], -1, 3)
        return self.score(counts[..., 0], counts[..., 1], counts[..., 2])

    def details(self, outcomes: Sequence[Outcome], confidence: float) -> tuple[Table, ...]:
        """Precision, recall and F1 of each class, and which class was taken for which."""
        classes = known(self.name, outcomes)
        counts = self.stats(outcomes).sum(axis=0).reshape(-1, 3).astype(int).tolist()
        each = per_class(dict(zip(classes, counts, strict=True)), confidence)
        several = any(outcome.right_labels is not None for outcome in outcomes)
        return (each,) if several else (each, confusion(outcomes, classes))


def known(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    """Every class of the references, sorted. Raises InputError E103 where there are too many to be classes."""
    classes = sorted({label for outcome in outcomes for label in rights(outcome)})
    if len(classes) > MOST:
        raise InputError(
            Problem(
                "E103",
                f"{name} needs classes, but the test rows have {len(classes):,} different answers",
                fix="use exact_match, token_f1 or rougeL for free text",
            )
        )
    return classes


def macro(hits: np.ndarray, possible: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Mean of hits / possible over the classes that were seen; 0 for a seen class with nothing possible. [..., C] -> [...]"""
    each = ratio(hits, possible, empty=0.0)
    return ratio(np.where(seen > 0, each, 0.0).sum(axis=-1), (seen > 0).sum(axis=-1))
