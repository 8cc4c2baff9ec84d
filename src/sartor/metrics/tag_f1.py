"""F1 of whole names: a name counts as found where its first and last word and its kind are right, as in CoNLL-2003.

B-PER I-PER O   found as   B-PER O O   gives 0; O alone is no name. Tags without B- and I- are names of one word or more
that go on as long as the tag does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.metrics._mean import ratio
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]

NONE = "O"


class _TagF1:
    name = "tag_f1"
    higher_is_better = True
    needs = "tags"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 3] names found, names given, names there"""
        return np.array([_counts(outcome) for outcome in outcomes], np.float64).reshape(-1, 3)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 3] -> [...]; 1 where there are no names and none were given."""
        found, given, there = np.moveaxis(sums, -1, 0)
        return ratio(2 * found, given + there, empty=1.0)


def _counts(outcome: Outcome) -> tuple[int, int, int]:
    wanted = _names(outcome.reference.split() if outcome.right_tags is None else outcome.right_tags)
    given = _names((outcome.prediction or "").split() if outcome.tags is None else outcome.tags)
    return len(wanted & given), len(given), len(wanted)


def _names(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(kind, first word, behind the last) of every name. I- without a beginning before it begins one, as conlleval has it."""
    found: set[tuple[str, int, int]] = set()
    kind, first, before = None, 0, ""
    for place, tag in enumerate([*tags, NONE]):
        mark, _, own = tag.partition("-") if tag[:2] in ("B-", "I-", "E-", "S-") else ("", "", tag)
        new = None if tag == NONE else own
        if kind is not None and (new != kind or mark in ("B", "S") or before in ("E", "S")):
            found.add((kind, first, place))
            kind = None
        if new is not None and kind is None:
            kind, first = new, place
        before = mark
    return found


METRIC = _TagF1()
