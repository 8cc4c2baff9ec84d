"""Best-fit packing: rows go whole into bins of a given size, the fullest bin that still has room first.

Best-fit decreasing needs at most 11/9 of the optimal number of bins + 4 (Johnson 1974). Because a batch is flat and the
loss is a sum, packing decides only how much memory one forward pass takes, never what is learnt.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from sartor.tokens.prefix import LEAST, in_order, share


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of the rows in each bin. A row longer than `capacity` gets a bin of its own. Deterministic."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for index in order:
        length = lengths[index]
        place = bisect_left(room, (length, -1))
        if place == len(room):
            bins.append([index])
            free, owner = capacity - length, len(bins) - 1
        else:
            free, owner = room.pop(place)
            bins[owner].append(index)
            free -= length
        if free > 0:
            insort(room, (free, owner))
    return [sorted(members) for members in bins]


def pack_shared(sequences: Sequence[np.ndarray], capacity: int, least: int = LEAST) -> list[list[int]]:
    """Indices of the sequences in each bin, where `capacity` counts tokens that are computed, shared ones once.

    Sequences that begin alike stay together; where they do not all fit into one bin, each of their bins has the beginning
    once more. A sequence longer than `capacity` gets a bin of its own. Deterministic.
    """
    order, common = in_order(sequences)
    families: list[list[int]] = []
    size = 0
    for place, index in enumerate(order):
        saved = max(0, common[place - 1] - least + 1) if place else 0
        apart = place == 0 or common[place - 1] < least
        if apart or size + len(sequences[index]) - saved > capacity:
            families.append([])
            size, saved = 0, 0
        families[-1].append(index)
        size += len(sequences[index]) - saved
    costs = [share([sequences[index] for index in family], least).tokens for family in families]
    return [sorted(index for place in members for index in families[place]) for members in pack(costs, capacity)]
