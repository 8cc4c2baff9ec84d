"""Best-fit packing: rows go whole into bins of a given size, the fullest bin that still has room first.

Best-fit decreasing needs at most 11/9 of the optimal number of bins + 4 (Johnson 1974). Because a batch is flat and the
loss is a sum, packing decides only how much memory one forward pass takes, never what is learnt.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


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
