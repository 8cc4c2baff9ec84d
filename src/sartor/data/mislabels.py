"""Which labels are probably wrong: rows whose text reads like another label's rows, by models that never saw them.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
equations 1 and 2): every row gets probabilities from a model fitted to the other folds; a row is suspected where the label
of another class is at least as probable as it is on average for that class's own rows. The model is logistic regression
on hashed tf-idf of words and pairs of words. Copies of a row are in its fold, so that a wrong label cannot vouch for its
copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sartor.data.dataset import Dataset
from sartor.data.features import hashed
from sartor.data.groups import Rows
from sartor.data.similarity import mixed
from sartor.data.split import OUT, Splits
from sartor.data.wording import asked

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FOLDS = 5
ROWS = 20_000
"""Labelled rows that are judged; of more, a fixed sample."""
CLASSES = 1000
"""With more labels than this they are answers, not classes."""
FEW = 5
"""Rows that a label needs to be known by."""
ENOUGH = 50
"""Labelled rows that are needed to judge any."""
LEARNT = 0.5
"""Share of rows that must get their label from the other folds; below, the texts do not tell the labels."""
WIDTH = 1 << 18
WEIGHTS = 1 << 19
"""Weights of one model at most."""
MARGIN = 0.5
"""By how much more probable another label must be; less is left to the ranking."""
LONGEST = 4000
"""Characters of a text that are read."""
PENALTY = 0.3
STEPS = 40
POWER = 12
"""Rounds of the power iteration."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """Labelled rows in the order of suspicion, the most suspicious first."""

    rows: Rows
    """[n] numbers of the rows that were judged."""
    score: NDArray[np.float32]
    """[n] probability of the likeliest other label less that of the given one, -1 to 1."""
    other: NDArray[np.int32]
    """[n] code of the likeliest other label."""
    given_probability: NDArray[np.float32]
    other_probability: NDArray[np.float32]
    suspected: NDArray[np.bool_]
    """[n] whether the other label is as probable as for its own rows, and by `MARGIN` more than the given one."""
    accuracy: float
    """Share of the rows that got their label from the other folds."""


def rank(dataset: Dataset, splits: Splits) -> Suspects | None:
    """Judge the labelled rows that are in a part; None where there are too few rows or labels or the texts do not tell."""
    label = dataset.index.label
    rows = np.flatnonzero((label >= 0) & (splits.part != OUT))
    if len(rows) > ROWS:
        key = mixed(dataset.index.content[rows, 0], 0)
        rows = np.sort(rows[np.argsort(key, kind="stable")[:ROWS]])
    counts = np.bincount(label[rows], minlength=len(dataset.labels)) if len(rows) else np.zeros(0, np.int64)
    known = np.flatnonzero(counts >= FEW)
    rows = rows[np.isin(label[rows], known)]
    if len(rows) < ENOUGH or not 2 <= len(known) <= CLASSES:
        return None
    code = np.searchsorted(known, label[rows])
    texts = [asked(dataset[int(row)]) for row in rows]
    fold = mixed(splits.clusters.of[rows].astype(np.uint64), 1) % np.uint64(FOLDS)
    judged = judge(texts, code, fold.astype(np.int64))
    if judged.accuracy < max(LEARNT, 1.1 * counts.max() / len(rows)):
        return None
    order = np.argsort(-judged.score, kind="stable")
    return Suspects(
        rows=rows[order],
        score=judged.score[order],
        other=known[judged.other][order].astype(np.int32),
        given_probability=judged.given_probability[order],
        other_probability=judged.other_probability[order],
        suspected=judged.suspected[order],
        accuracy=judged.accuracy,
    )


def judge(texts: Sequence[str], code: NDArray[np.int64], fold: NDArray[np.int64]) -> Suspects:
    """Judge n texts with labels 0..c-1; a text is judged by a model of the folds it is not in. In their order."""
    classes = int(code.max()) + 1
    matrix = _shared(hashed((text[:LONGEST] for text in texts), WIDTH), WEIGHTS // classes)
    probability = _probabilities(matrix, code, fold, classes)
    at = np.arange(len(code))
    given = probability[at, code]
    threshold = np.bincount(code, given, classes) / np.maximum(np.bincount(code, minlength=classes), 1)
    others = probability.copy()
    others[at, code] = -1
    other = others.argmax(1)
    best = others[at, other]
    return Suspects(
        rows=at,
        score=best - given,
        other=other.astype(np.int32),
        given_probability=given,
        other_probability=best,
        suspected=(best >= threshold[other]) & (best - given >= MARGIN),
        accuracy=float((probability.argmax(1) == code).mean()),
    )


def _shared(matrix: csr_array, most: int) -> csr_array:
    """The columns that at least two rows have, at most `most` of them: what one row has alone tells nothing of another."""
    rows_with = np.bincount(matrix.indices, minlength=matrix.shape[1])
    chosen = np.argsort(-rows_with, kind="stable")[:most]
    kept: csr_array = matrix[:, np.sort(chosen[rows_with[chosen] > 1])]
    return kept


def _probabilities(
    matrix: csr_array, code: NDArray[np.int64], fold: NDArray[np.int64], classes: int
) -> NDArray[np.float32]:
    """[n, c] of each row, by the model of the other folds."""
    probability = np.full((len(code), classes), 1 / classes, np.float32)
    for number in np.unique(fold):
        mine, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if len(others):
            weights = _fit(matrix[others], code[others], classes)
            probability[mine] = _softmax(matrix[mine] @ weights)
    return probability


def _fit(matrix: csr_array, code: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """[width, c] weights for a small sum of -log p + `PENALTY` / 2 * weights^2.

    By accelerated gradient descent (Nesterov 1983), a fixed number of steps of 1 / (largest curvature); stopping early
    keeps the weights small as well.
    """
    count, width = matrix.shape
    at, turned = np.arange(count), matrix.T.tocsr()
    step = np.float32(1 / (0.5 * _largest(matrix, turned) + PENALTY))
    weights = np.zeros((width, classes), np.float32)
    ahead, pace = weights, 1.0
    for _ in range(STEPS):
        error = _softmax(matrix @ ahead)
        error[at, code] -= 1
        better = ahead - step * (turned @ error + np.float32(PENALTY) * ahead)
        faster = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
        ahead = better + np.float32((pace - 1) / faster) * (better - weights)
        weights, pace = better, faster
    return weights


def _largest(matrix: csr_array, turned: csr_array) -> float:
    """The square of the largest singular value, by power iteration; entries are not negative, so it starts well."""
    value, vector = 1.0, np.ones(matrix.shape[1], np.float32)
    for _ in range(POWER):
        vector = turned @ (matrix @ vector)
        value = float(np.linalg.norm(vector))
        vector = vector / np.float32(max(value, 1e-12))
    return value


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled = np.exp(scores - scores.max(1, keepdims=True))
    whole: NDArray[np.float32] = scaled / scaled.sum(1, keepdims=True)
    return whole
