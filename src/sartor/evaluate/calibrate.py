"""Makes the probabilities of a head mean what they say: one temperature, found on validation rows.

Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 9 and section 4.2: outputs are divided by the T that
minimises the negative log-likelihood; the label that scores best stays the same. Where a row may have several labels, the
threshold of each is the one with the best F1 there. R: rows, k: outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sartor.data.rows import Example, Labelled, Tagged
from sartor.evaluate.heads import log_softmax, sigmoid

if TYPE_CHECKING:
    from sartor.evaluate.heads import Told
    from sartor.models.heads import HeadSpec

HOTTEST, COLDEST = 20.0, 0.05
"""Temperatures that are looked at; a model that is never wrong has none."""
FEWEST = 10
"""Rows with a label, and without it, from which its threshold is found; 0.5 where there are fewer."""


def calibrated(head: HeadSpec, told: Sequence[Told]) -> HeadSpec:
    """The head with the temperature and thresholds that these rows ask for; as it is where they say nothing."""
    if head.kind == "classes":
        places = {name: place for place, name in enumerate(head.names)}
        kept = [one for one in told if isinstance(one.row, Example) and one.row.label in places]
        right = np.array([places[str(one.row.label)] for one in kept if isinstance(one.row, Example)], np.int64)
        return replace(head, temperature=of_classes(np.array([one.scores for one in kept]), right)) if kept else head
    if head.kind == "tags":
        places = {name: place for place, name in enumerate(head.names)}
        words = np.concatenate([one.scores for one in told]) if told else np.empty((0, len(head.names)))
        said = [places[tag] for one in told if isinstance(one.row, Tagged) for tag in one.row.tags]
        return replace(head, temperature=of_classes(words, np.array(said))) if said else head
    if head.kind == "labels" and told:
        scores = np.array([one.scores for one in told])
        holds = np.array([[name in _labels(one) for name in head.names] for one in told])
        heat = of_labels(scores, holds)
        return replace(head, temperature=heat, thresholds=thresholds(sigmoid(scores / heat), holds))
    return head


def _labels(told: Told) -> tuple[str, ...]:
    return told.row.labels if isinstance(told.row, Labelled) else ()


def of_classes(scores: np.ndarray, right: np.ndarray) -> float:
    """[R, k], [R] -> the T that minimises -sum_r log softmax(scores_r / T)[right_r]."""
    rows = np.arange(len(right))
    return _least(lambda heat: -float(log_softmax(scores / heat)[rows, right].sum()))


def of_labels(scores: np.ndarray, holds: np.ndarray) -> float:
    """[R, k], [R, k] bool -> the T that minimises the binary cross entropy of sigmoid(scores / T)."""
    signed = np.where(holds, scores, -scores)
    return _least(lambda heat: float(np.logaddexp(0, -signed / heat).sum()))


def _least(loss: Callable[[float], float]) -> float:
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log: loss(float(np.exp(log))),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(f"{np.exp(found.x):.4g}")


def thresholds(shares: np.ndarray, holds: np.ndarray) -> tuple[float, ...]:
    """[R, k] probabilities, [R, k] bool -> for each label the one from which giving it has the best F1."""
    found = []
    for column, here in zip(shares.T, holds.T, strict=True):
        if min(here.sum(), (~here).sum()) < FEWEST:
            found.append(0.5)
            continue
        order = np.argsort(-column, kind="stable")
        hits = np.cumsum(here[order])
        scores = 2 * hits / (np.arange(1, len(order) + 1) + here.sum())
        best = int(scores.argmax())
        below = column[order[best + 1]] if best + 1 < len(order) else 0.0
        found.append(float(f"{(column[order[best]] + below) / 2:.4g}"))
    return tuple(found)
