"""Which rows are asked first: those that a model is least sure of, those least like what was asked before, or a shuffle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sartor.data.annotate.items import Item
from sartor.data.similarity import Shingles, mixed

Probabilities = Mapping[str, Mapping[str, float]]
"""Row -> label -> probability."""
Uncertainty = Callable[[Sequence[float]], float]

HASHES = 64
"""Of a MinHash signature; the share that two rows have in common estimates their Jaccard similarity to 0.06."""
FIRST = 1_000
"""Rows that are chosen to be far apart; what follows is shuffled."""
POOL = 20_000
"""Rows among which those are chosen, so that a large file does not keep anybody waiting."""


def entropy(probabilities: Sequence[float]) -> float:
    """In nats: 0 where a model is certain, log k where it has no idea (Shannon 1948; for labelling: Settles 2009, section 3.1)."""
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def margin(probabilities: Sequence[float]) -> float:
    """One minus the lead of the best label over the second (Scheffer, Decomain and Wrobel 2001)."""
    best, second = ([*sorted(probabilities, reverse=True), 0.0])[:2]
    return 1.0 - (best - second)


def shuffled(items: Sequence[Item], seed: int) -> list[int]:
    """Positions in an order that depends on the content and the seed only."""
    return [int(place) for place in np.argsort(chances(items, seed), kind="stable")]


def uncertain(items: Sequence[Item], known: Probabilities, measure: Uncertainty) -> list[int]:
    """Positions, those first of which the model is least sure; what it was not asked about comes last."""
    unsure = [measure(list(known[item.key].values())) if item.key in known else -math.inf for item in items]
    return sorted(range(len(items)), key=lambda place: -unsure[place])


def diverse(items: Sequence[Item], seed: int) -> list[int]:
    """Positions, each of the first `FIRST` as unlike as possible to all before it.

    Farthest-first traversal (Gonzalez 1985; as k-center for labelling: Sener and Savarese 2018) over the MinHash estimate of
    Jaccard distance between word shingles. It begins with the most typical row, the one most like all others.
    """
    order = shuffled(items, seed)
    pool = np.asarray(order[:POOL], dtype=np.int64)
    if len(pool) < 3:
        return order
    signatures = minhash([items[place].text for place in pool])
    alike = np.zeros(len(pool))
    for column in signatures.T:
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        alike += counts[inverse]
    nearest = np.zeros(len(pool))
    chosen = [int(alike.argmax())]
    for _ in range(min(FIRST, len(pool)) - 1):
        nearest = np.maximum(nearest, (signatures == signatures[chosen[-1]]).mean(axis=1))
        nearest[chosen[-1]] = np.inf
        chosen.append(int(nearest.argmin()))
    first = [int(pool[place]) for place in chosen]
    taken = set(first)
    return first + [place for place in order if place not in taken]


def minhash(texts: Sequence[str]) -> NDArray[np.uint64]:
    """[n, HASHES] MinHash signatures of the texts' shingles (Broder 1997)."""
    shingles = Shingles.of(texts)
    result = np.empty((len(texts), HASHES), np.uint64)
    for first, owner, code in shingles.chunks(np.arange(len(texts))):
        begins = np.flatnonzero(np.diff(owner, prepend=-1))
        for place in range(HASHES):
            smallest = np.minimum.reduceat(mixed(code.astype(np.uint64), place), begins)
            result[first + owner[begins], place] = smallest
    return result


def shared(items: Sequence[Item], share: float, seed: int) -> frozenset[str]:
    """Keys of the rows that every annotator gets: `share` of all, to the nearest row, the same on every machine."""
    order = np.argsort(chances(items, seed + 1), kind="stable")
    return frozenset(items[int(place)].key for place in order[: round(share * len(items))])


def chances(items: Sequence[Item], seed: int) -> NDArray[np.uint64]:
    """[n] a number for each item that looks random and depends on its key and the seed only."""
    keys = [int(item.key.partition("-")[0], 16) + 31 * int(item.key.partition("-")[2] or 0) for item in items]
    return mixed(np.asarray([key % 2**64 for key in keys], dtype=np.uint64), seed)
