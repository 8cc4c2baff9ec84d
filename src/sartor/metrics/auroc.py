"""How often a row with the label scores higher on it than a row without: of two labels, the one that is second in order.

1 is a perfect ranking, 0.5 is chance; equal scores count half (the area under the ROC curve, Hanley and McNeil 1982). A text
without scores counts as sure of itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sartor.errors import InputError, Problem
from sartor.metrics._answers import right
from sartor.metrics._sample import OfSample, order, ranks
from sartor.metrics._scores import probabilities
from sartor.options import NoOptions as Options
from sartor.protocols import Outcome

__all__ = ["METRIC", "Options"]


PLACES = 9
"""Decimals up to which probabilities differ."""


def _read(outcomes: Sequence[Outcome]) -> tuple[np.ndarray, np.ndarray]:
    """([n] score of the second label, [n] whether it is right). Raises InputError E105 for other than two labels."""
    names = sorted({right(outcome) for outcome in outcomes} | {name for one in outcomes for name in one.label_scores})
    if len(names) > 2 or any(outcome.right_labels is not None for outcome in outcomes):
        what = f"auroc needs two labels, of which a row has one; there are {len(names)}"
        raise InputError(Problem("E105", what, fix="use macro_f1, mcc or ece"))
    second = names[-1] if names else ""
    scores = [round(probabilities(outcome).get(second, 0.0), PLACES) for outcome in outcomes]
    return order(np.array(scores, np.float64)), np.array([right(one) == second for one in outcomes], np.float64)


def _value(weight: np.ndarray, scores: np.ndarray, holds: np.ndarray) -> float:
    """Mann and Whitney's U over its largest value; 0.5 where all rows have one label."""
    here = holds > 0.5
    with_it, without = weight[here].sum(), weight[~here].sum()
    if not with_it or not without:
        return 0.5 if len(weight) else float("nan")
    sum_of_ranks = weight[here] @ ranks(weight, scores)[here]
    return float((sum_of_ranks - with_it * (with_it + 1) / 2) / (with_it * without))


METRIC = OfSample("auroc", _read, _value, needs="probabilities")
