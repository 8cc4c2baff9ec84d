"""What rows are about: spherical k-means on tf-idf of their words, the same for the same rows.

Dhillon and Modha 2001, "Concept Decompositions for Large Sparse Text Data Using Clustering". The first centre is the row
most like all others, each next one the row least like the centres before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sartor.data.features import weighted, words

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VOCABULARY = 4000
"""Words that are looked at: of those in at least `FEW` rows and at most `COMMON` of them, the commonest."""
FEW = 3
COMMON = 0.2
ROUNDS = 20
PER_TOPIC = 60
"""Rows for one topic, so that few rows make few topics ..."""
MOST = 12
"""... and many rows no more than can be read."""
SHOWN = 6
"""Words that stand for a topic."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Rows that share words."""

    words: tuple[str, ...]
    """The most telling first."""
    members: NDArray[np.int64]
    """Places of its rows, the most typical first."""


def topics(texts: Sequence[str]) -> list[Topic]:
    """The topics of n texts, the largest first; texts without a word of the vocabulary have none."""
    said = [words(text) for text in texts]
    rows_with = Counter(word for own in said for word in set(own))
    telling = [
        word
        for word, count in rows_with.most_common()
        if FEW <= count <= max(FEW, COMMON * len(texts)) and len(word) > 2 and not word.isdigit()
    ][:VOCABULARY]
    place = {word: number for number, word in enumerate(telling)}
    found = [[place[word] for word in own if word in place] for own in said]
    known = [number for number, own in enumerate(found) if own]
    count = min(MOST, len(known) // PER_TOPIC)
    if count < 2:
        return []
    flat = [word for number in known for word in found[number]]
    ends = [0, *np.cumsum([len(found[number]) for number in known]).tolist()]
    matrix = weighted(flat, ends, len(telling))
    centres, nearest, likeness = _clustered(matrix, count)
    made = []
    for number in range(count):
        mine = np.flatnonzero(nearest == number)
        if len(mine):
            best = np.argsort(-centres[number], kind="stable")[:SHOWN]
            order = mine[np.argsort(-likeness[mine], kind="stable")]
            named = tuple(telling[word] for word in best if centres[number, word] > 0)
            made.append(Topic(named, np.array(known, np.int64)[order]))
    return sorted(made, key=lambda topic: -len(topic.members))


def _clustered(matrix: csr_array, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """([k, width] centres of norm 1, [n] the nearest centre, [n] cosine to it)."""
    mean = np.asarray(matrix.sum(0)).ravel()
    chosen = [int((matrix @ mean).argmax())]
    closest = (matrix @ matrix[[chosen[0]]].toarray()[0]).ravel()
    for _ in range(count - 1):
        chosen.append(int(closest.argmin()))
        closest = np.maximum(closest, (matrix @ matrix[[chosen[-1]]].toarray()[0]).ravel())
    centres = matrix[chosen].toarray().astype(np.float32)
    nearest = np.full(matrix.shape[0], -1)
    for _ in range(ROUNDS):
        scores = matrix @ centres.T
        new = scores.argmax(1)
        if np.array_equal(new, nearest):
            break
        nearest = new
        for number in range(count):
            mine = np.flatnonzero(nearest == number)
            if len(mine):
                total = np.asarray(matrix[mine].sum(0), np.float32).ravel()
                centres[number] = total / max(float(np.linalg.norm(total)), 1e-12)
    scores = matrix @ centres.T
    return centres, nearest, scores[np.arange(len(nearest)), nearest]
