"""Finds equal values among very many in little memory: beside the answer, what is needed for a million values at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.integer[Any]]
"""Numbers of rows."""
AT_ONCE = 1 << 20


def numbering(count: int) -> np.dtype[np.integer[Any]]:
    """The smallest type that numbers `count` rows."""
    return np.dtype(np.int32 if count < 1 << 31 else np.int64)


def count_up(count: int) -> Rows:
    """0..count-1 in that type."""
    return np.arange(count, dtype=numbering(count))


def first_equal(keys: NDArray[np.uint64]) -> Rows:
    """[n] the first place with the same key. Made for keys that are hashes; others take more memory."""
    result = np.empty(len(keys), numbering(len(keys)))
    for places in _shares(keys):
        mine = keys[places]
        order = np.argsort(mine, kind="stable")
        mine = mine[order]
        heads = np.flatnonzero(np.concatenate([np.ones(min(1, len(mine)), np.bool_), mine[1:] != mine[:-1]]))
        result[places[order]] = np.repeat(places[order[heads]], np.diff(np.append(heads, len(mine))))
    return result


def first_same(numbers: Rows, count: int) -> Rows:
    """[n] the first place with the same number; numbers are 0..count-1."""
    places = count_up(len(numbers))
    first = np.zeros(count, places.dtype)
    # Of several values for one place the last one stays.
    first[numbers[::-1]] = places[::-1]
    return first[numbers]


def most_common(keys: NDArray[np.uint64], least: int) -> np.uint64 | None:
    """The key that more than `least` of the n keys have, where that is at least half of them; None without."""
    if not len(keys):
        return None
    # A value that more than half have lies in the middle of their order.
    middle = np.partition(keys, len(keys) // 2)[len(keys) // 2]
    found: np.uint64 | None = middle if int(np.count_nonzero(keys == middle)) > least else None
    return found


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The different values in ascending order. `values` is sorted in place."""
    values.sort()
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def is_among(ordered: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """[n] whether each value is one of `ordered`, which ascends."""
    result = np.zeros(len(values), np.bool_)
    if len(ordered):
        for begin in range(0, len(values), AT_ONCE):
            some = values[begin : begin + AT_ONCE]
            at = np.minimum(np.searchsorted(ordered, some), len(ordered) - 1)
            result[begin : begin + AT_ONCE] = ordered[at] == some
    return result


def _shares(keys: NDArray[np.uint64]) -> Iterator[Rows]:
    """The places of all keys, equal keys together, about a million at a time."""
    wanted = max(1, len(keys) // AT_ONCE)
    bits = int(wanted).bit_length() - 1
    places = count_up(len(keys))
    if not bits:
        yield places
        return
    share = (keys >> np.uint64(64 - bits)).astype(np.uint16)
    for number in range(1 << bits):
        yield places[share == number]
