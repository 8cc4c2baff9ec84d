"""How alike training rows and held-out rows still are after the split: the best match of each held-out row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sartor.data.groups import Rows
from sartor.data.similarity import Pairs, Shingles

HELD_OUT = 500
"""Held-out rows of each part that are compared; of more, a fixed sample."""
TRAINING = 20_000
"""Training rows they are compared with; of more, a fixed sample."""
WORK = 1 << 22


@dataclass(frozen=True, slots=True)
class Residual:
    """Best-match Jaccard similarity of held-out rows to training rows."""

    median: float
    p95: float
    p99: float
    max: float
    closest: tuple[int, int] | None
    """The held-out row and the training row that are most alike."""
    rows: int
    """Held-out rows compared."""
    training: int
    """Training rows they were compared with."""
    sampled: bool
    """Whether either is a sample."""

    def json(self) -> dict[str, Any]:
        """The figures, as a JSON object."""
        return {
            "median": round(self.median, 4),
            "p95": round(self.p95, 4),
            "p99": round(self.p99, 4),
            "max": round(self.max, 4),
            "rows": self.rows,
            "training": self.training,
            "sampled": self.sampled,
        }

    def state(self) -> dict[str, Any]:
        """Everything, as a JSON object from which `restore` rebuilds it."""
        return asdict(self)

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """The figures whose `state` this is."""
        return cls(**{**state, "closest": state["closest"] and tuple(state["closest"])})

    def __str__(self) -> str:
        sampled = f", a sample of {self.rows:,} rows against {self.training:,}" if self.sampled else ""
        figures = f"median {self.median:.2f}, 95 % {self.p95:.2f}, 99 % {self.p99:.2f}, highest {self.max:.2f}"
        return f"likeness to training rows: {figures}{sampled}"


def residual(
    shingles: Shingles, part: NDArray[np.int8], key: NDArray[np.uint64], content: NDArray[np.uint64], close: Pairs
) -> Residual | None:
    """The likeness of parts 1 and 2 to part 0; None where one side is empty.

    Samples are the first rows by `key`, and of equal keys by `content`, so that they do not depend on a row's place in
    the file. `close` holds pairs known to be alike, so that the highest figure does not hang on the sample.
    """
    held = np.concatenate([_sample(np.flatnonzero(part == number), key, content, HELD_OUT) for number in (1, 2)])
    training = _sample(np.flatnonzero(part == 0), key, content, TRAINING)
    if not len(held) or not len(training):
        return None
    best, match = _best(shingles, held, training)
    at = int(np.argmax(best))
    highest, closest = float(best[at]), (int(held[at]), int(training[match[at]]))
    across = np.flatnonzero((part[close.first] == 0) != (part[close.second] == 0))
    across = across[(part[close.first[across]] >= 0) & (part[close.second[across]] >= 0)]
    if len(across):
        top = across[np.argmax(close.similarity[across])]
        if close.similarity[top] > highest:
            one, other = int(close.first[top]), int(close.second[top])
            highest, closest = float(close.similarity[top]), (other, one) if part[one] == 0 else (one, other)
    median, p95, p99 = (float(figure) for figure in np.quantile(best, (0.5, 0.95, 0.99)))
    sampled = len(held) < int((part > 0).sum()) or len(training) < int((part == 0).sum())
    return Residual(median, p95, p99, highest, closest, len(held), len(training), sampled)


def likeness(shingles: Shingles, held: Rows, training: Rows) -> Residual | None:
    """The likeness of `held` rows to `training` rows, evenly spaced ones of more; None where one side is empty."""
    some = held[:: max(1, -(-len(held) // HELD_OUT))]
    others = training[:: max(1, -(-len(training) // TRAINING))]
    if not len(some) or not len(others):
        return None
    best, match = _best(shingles, some, others)
    at = int(np.argmax(best))
    median, p95, p99 = (float(figure) for figure in np.quantile(best, (0.5, 0.95, 0.99)))
    closest = (int(some[at]), int(others[match[at]]))
    sampled = len(some) < len(held) or len(others) < len(training)
    return Residual(median, p95, p99, float(best[at]), closest, len(some), len(others), sampled)


def _sample(rows: Rows, key: NDArray[np.uint64], content: NDArray[np.uint64], most: int) -> Rows:
    """At most `most` of the rows, those with the smallest keys, in their order."""
    if len(rows) > most:
        own = key[rows]
        rows = rows[own <= np.partition(own, most)[most]]
    return rows[np.lexsort((*content[rows].T[::-1], key[rows]))][:most]


def _best(shingles: Shingles, held: Rows, training: Rows) -> tuple[NDArray[np.float64], Rows]:
    """[h] the similarity of each held-out row's nearest training row, and that row's place in `training`."""
    from scipy.sparse import csr_array

    owner, code = shingles.gather(held)
    words, word = np.unique(code, return_inverse=True)
    ours = csr_array((np.ones(len(word), np.float32), (owner, word)), shape=(len(held), len(words)))
    best, match = np.zeros(len(held)), np.zeros(len(held), np.int64)
    step = max(1, WORK // len(held))
    for begin in range(0, len(training), step):
        rows = training[begin : begin + step]
        theirs = [_known(words, row + at, found) for at, row, found in shingles.chunks(rows)]
        word, row = (np.concatenate(column) for column in zip(*theirs, strict=True))
        other = csr_array((np.ones(len(word), np.float32), (word, row)), shape=(len(words), len(rows)))
        shared = (ours @ other).tocsr()
        counts = np.diff(shared.indptr)
        sizes = shingles.size_of(held).astype(np.float32)
        union = np.repeat(sizes, counts) + shingles.size_of(rows).astype(np.float32)[shared.indices] - shared.data
        likeness = shared.data / union
        for at in np.flatnonzero(counts):
            mine = slice(shared.indptr[at], shared.indptr[at + 1])
            nearest = int(likeness[mine].argmax())
            if likeness[mine][nearest] > best[at]:
                best[at], match[at] = likeness[mine][nearest], begin + shared.indices[mine][nearest]
    return best, match


def _known(words: NDArray[np.uint32], row: Rows, code: NDArray[np.uint32]) -> tuple[Rows, Rows]:
    """(place in `words`, row) of those shingles that are among `words`."""
    at = np.minimum(np.searchsorted(words, code), len(words) - 1)
    hit = words[at] == code
    return at[hit], row[hit]
