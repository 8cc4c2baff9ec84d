"""How alike two rows are: the Jaccard similarity of their word shingles, and all pairs above a threshold.

A shingle is a word or a pair of neighbouring words of what is asked or answered, so that one-line utterances and long
documents can be compared by one threshold. Candidates come from MinHash bands (rensa) and every one is verified on the
shingle sets themselves. Shingles and bands lie on disk; memory holds 4 bytes per row, and the pairs that are found.
"""

from __future__ import annotations

import math
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from sartor.data.columns import read_columns, write_columns
from sartor.data.groups import Rows, count_up, distinct, is_among, numbering
from sartor.data.wording import normal

WORD = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]|\\w+")
"""A word; in scripts written without spaces, a character."""

CLOSE = 0.5
"""Pairs at least this alike are remembered although they are not linked."""
OWN = 0.6
"""How alike copies must be in what is their own, where most of their words are a common frame."""
WINDOW = 24
"""Neighbours of the same band that a row is compared with; only buckets larger than this are not compared in full."""
MISSED = 0.001
"""Chance that a pair exactly at the threshold is overlooked."""
CHUNK_WORDS = 1 << 18
CHUNK_SHINGLES = 1 << 19
CHUNK_PAIRS = 1 << 18
MOST_ROWS = 1 << 16
"""Rows of one piece at most, however short they are."""
SEED = 20261


def silent(done: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """k pairs of rows and how alike they are."""

    first: Rows
    second: Rows
    similarity: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    def where(self, mask: NDArray[np.bool_]) -> Pairs:
        """The pairs that the mask keeps."""
        return Pairs(self.first[mask], self.second[mask], self.similarity[mask])

    def named(self, names: Rows) -> Pairs:
        """The pairs with `names[i]` in place of i."""
        return Pairs(names[self.first], names[self.second], self.similarity)

    @classmethod
    def join(cls, parts: Iterable[Pairs]) -> Pairs:
        """All pairs of the parts, one after the other."""
        parts = [cls(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)), *parts]
        return cls(
            np.concatenate([part.first for part in parts]),
            np.concatenate([part.second for part in parts]),
            np.concatenate([part.similarity for part in parts]),
        )


class Shingles:
    """The shingle sets of n rows as sorted 32-bit hashes, in files that vanish with this object."""

    def __init__(self, flat: NDArray[np.uint32], ends: NDArray[np.int64], folder: Path | None) -> None:
        self._flat, self._ends = flat, ends
        self.folder = folder
        """Where they lie and what is made of them may lie; None for the system's folder."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """[n] shingles of each row."""
        return np.diff(self._ends, prepend=0)

    def size_of(self, rows: Rows) -> NDArray[np.int64]:
        """[k] shingles of each of the rows."""
        return self._ends[rows] - self._begins(rows)

    def _begins(self, rows: Rows) -> NDArray[np.int64]:
        return np.where(rows > 0, self._ends[rows - 1], 0)

    @classmethod
    def of(cls, texts: Iterable[str], folder: Path | None = None, *, seen: Callable[[int], None] = silent) -> Self:
        """Shingle every text. `seen` is told how many are done."""

        with tempfile.TemporaryFile(dir=folder) as flat, tempfile.TemporaryFile(dir=folder) as ends:
            gathering = Gathering(flat, ends, seen)
            for text in texts:
                gathering.add(normal(text))
            return cls.gathered(gathering, folder)

    def write(self, path: Path) -> None:
        """Write them to a file that `open` reads."""
        write_columns(path, {"flat": self._flat, "ends": self._ends}, {})

    @classmethod
    def open(cls, path: Path) -> Self:
        """What was written to a file."""
        columns, _ = read_columns(path)
        return cls(columns["flat"], columns["ends"], path.parent)

    @classmethod
    def gathered(cls, gathering: Gathering, folder: Path | None = None) -> Self:
        """The sets of the texts that were added."""
        flat, ends = gathering.done()
        return cls(_mapped(flat, np.dtype(np.uint32)), _mapped(ends, np.dtype(np.int64)), folder)

    def subset(self, rows: Rows, folder: Path | None) -> Shingles:
        """The sets of `rows`, in that order, lying in `folder`."""

        def pieces() -> Iterator[tuple[Rows, NDArray[np.uint32]]]:
            for begin, end in self._pieces(rows):
                owner, code = self.gather(rows[begin:end])
                yield np.bincount(owner, minlength=end - begin), code

        return Shingles._spool(pieces(), folder)

    @classmethod
    def _spool(cls, pieces: Iterable[tuple[Rows, NDArray[np.uint32]]], folder: Path | None) -> Self:
        """From (sizes of the next rows' sets, their shingles)."""
        total = 0
        with tempfile.TemporaryFile(dir=folder) as flat, tempfile.TemporaryFile(dir=folder) as ends:
            for size, code in pieces:
                ends.write((np.cumsum(size) + total).astype(np.int64).tobytes())
                flat.write(code.tobytes())
                total += len(code)
            return cls(_mapped(flat, np.dtype(np.uint32)), _mapped(ends, np.dtype(np.int64)), folder)

    def __len__(self) -> int:
        return len(self._ends)

    def gather(self, rows: Rows) -> tuple[Rows, NDArray[np.uint32]]:
        """(position in `rows`, shingle) of all shingles of the rows, in order."""
        sizes = self.size_of(rows)
        owner = np.repeat(np.arange(len(rows)), sizes)
        start = np.repeat(self._begins(rows) - (np.cumsum(sizes) - sizes), sizes)
        return owner, self._flat[start + np.arange(len(owner))]

    def without(self, rows: Rows, frame: NDArray[np.uint32]) -> Shingles:
        """The sets of `rows` less the shingles of `frame`."""

        def pieces() -> Iterator[tuple[Rows, NDArray[np.uint32]]]:
            for begin, end in self._pieces(rows):
                owner, code = self.gather(rows[begin:end])
                own = ~np.isin(code, frame)
                yield np.bincount(owner[own], minlength=end - begin), code[own]

        return Shingles._spool(pieces(), self.folder)

    def chunks(self, rows: Rows) -> Iterator[tuple[int, Rows, NDArray[np.uint32]]]:
        """`gather` in pieces of bounded size, each with the position of its first row."""
        for begin, end in self._pieces(rows):
            yield begin, *self.gather(rows[begin:end])

    def frame(self, rows: Rows) -> NDArray[np.uint32]:
        """The shingles that more than half of the rows share."""
        sample = rows[:: max(1, len(rows) // 2000)]
        codes = [code for _, _, code in self.chunks(sample)]
        unique, counts = np.unique(np.concatenate(codes), return_counts=True)
        return unique[counts * 2 > len(sample)]

    def _pieces(self, rows: Rows) -> Iterator[tuple[int, int]]:
        return _pieces(lambda begin, end: self.size_of(rows[begin:end]), len(rows), CHUNK_SHINGLES)

    def jaccard(self, first: Rows, second: Rows) -> NDArray[np.float32]:
        """[k] shared shingles over all shingles of each pair; 1 for two empty sets."""
        result = np.empty(len(first), np.float32)
        both = self.size_of(first) + self.size_of(second)
        for begin, end in _pieces(lambda begin, end: both[begin:end], len(both), CHUNK_SHINGLES):
            a, b = first[begin:end], second[begin:end]
            keys = [owner.astype(np.uint64) << np.uint64(32) | code for owner, code in (self.gather(a), self.gather(b))]
            key = np.sort(np.concatenate(keys))
            shared = np.bincount((key[1:][key[1:] == key[:-1]] >> np.uint64(32)).astype(np.int64), minlength=len(a))
            union = both[begin:end] - shared
            result[begin:end] = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
        return result


def links(shingles: Shingles, rows: Rows, threshold: float, *, own: Shingles | None = None) -> tuple[Pairs, Pairs]:
    """Pairs of `rows` that link all that is at or above `threshold`, and other pairs met that are at least `CLOSE` alike.

    Of rows that are linked already, directly or through others, not every pair is listed. With `own`, what is not part of
    a common frame, a pair must be at least `OWN` alike in that as well. The result depends on the order of `rows` only;
    give them in an order of their content.
    """
    if len(rows) < 2:
        return Pairs.join([]), Pairs.join([])
    forest = Forest(len(rows))
    bands = _bands(shingles, rows, threshold) if own is None else _bands(own, rows, min(OWN, threshold))
    rejected = np.zeros(0, np.uint64)
    near, close = [], []
    for number in range(len(bands)):
        apart = [rejected]
        for candidates in _candidates(bands[number], bands[(number + 1) % len(bands)]):
            # Pairs at the same distance are judged by the links known before, whatever the size of the pieces.
            linking = []
            for first, second in candidates:
                key = first.astype(np.uint64) << np.uint64(32) | second.astype(np.uint64)
                fresh = (forest.roots_of(first) != forest.roots_of(second)) & ~is_among(rejected, key)
                sizes = shingles.size_of(rows[first]), shingles.size_of(rows[second])
                fresh &= _could_reach(*sizes, min(CLOSE, threshold))
                first, second, key = first[fresh], second[fresh], key[fresh]
                found = Pairs(rows[first], rows[second], shingles.jaccard(rows[first], rows[second]))
                linked = found.similarity >= threshold
                if own is not None:
                    linked &= own.jaccard(found.first, found.second) >= OWN
                linking.append((first[linked], second[linked]))
                near.append(found.where(linked))
                close.append(found.where(~linked & (found.similarity >= CLOSE)))
                apart.append(key[~linked])
            for pair in linking:
                forest.join(*pair)
        rejected = distinct(np.concatenate(apart))
        forest.roots()
    return Pairs.join(near), Pairs.join(close)


def across(shingles: Shingles, one: Rows, other: Rows, threshold: float) -> Pairs:
    """For each row of `other` that is at least `threshold` alike to a row of `one`, the pair with such a row, verified.

    Of a very common band only `WINDOW` rows of `one` are tried.
    """
    bands = _bands(shingles, np.concatenate([one, other]), threshold)
    found = [Pairs.join([])]
    open_ = np.arange(len(other))
    for band in bands:
        order = np.argsort(band[: len(one)], kind="stable")
        key = band[: len(one)][order]
        matched = []
        for at in _slices(open_):
            theirs = band[len(one) :][at]
            begin = np.searchsorted(key, theirs, "left")
            count = np.minimum(np.searchsorted(key, theirs, "right") - begin, WINDOW)
            second = np.repeat(at, count)
            first = order[np.repeat(begin - (np.cumsum(count) - count), count) + np.arange(len(second))]
            pairs = Pairs(one[first], other[second], shingles.jaccard(one[first], other[second]))
            best = np.lexsort((pairs.first, -pairs.similarity, second))
            best = best[(pairs.similarity[best] >= threshold)]
            best = best[np.diff(second[best], prepend=-1) != 0]
            found.append(Pairs(pairs.first[best], pairs.second[best], pairs.similarity[best]))
            matched.append(second[best])
        open_ = np.setdiff1d(open_, np.concatenate([np.zeros(0, np.int64), *matched]), assume_unique=True)
    return Pairs.join(found)


class Forest:
    """Union-find over 0..n-1; the root of a tree is its smallest member."""

    def __init__(self, size: int) -> None:
        self._parent = count_up(size)

    def join(self, first: Rows, second: Rows) -> None:
        """Unite the trees of each pair."""
        parent = self._parent
        while len(first):
            a, b = self.roots_of(first), self.roots_of(second)
            apart = a != b
            first, second, a, b = first[apart], second[apart], a[apart], b[apart]
            np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))

    def roots(self) -> Rows:
        """[n] the root of every member."""
        parent = self._parent
        while True:
            above = parent[parent]
            if np.array_equal(above, parent):
                return parent
            parent = self._parent = above

    def roots_of(self, members: Rows) -> Rows:
        """[k] the root of each of these members."""
        roots = self._parent[members]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                return roots
            roots = above


class Gathering:
    """Shingles texts that come one by one.

    Args:
        flat, ends: empty files for the shingles, and for where those of each text end.
        seen: told how many texts are done.
    """

    def __init__(self, flat: BinaryIO, ends: BinaryIO, seen: Callable[[int], None] = silent) -> None:
        self._flat, self._ends, self._seen = flat, ends, seen
        self._waiting: list[list[str]] = []
        self._words = self._total = self._done = 0

    def add(self, text: str) -> None:
        """The next text, in normal form."""
        words = WORD.findall(text) or [text]
        self._waiting.append(words)
        self._words += len(words)
        if self._words >= CHUNK_WORDS:
            self._spool()

    def keep(self, shingles: Shingles) -> None:
        """The sets of the next texts, which were shingled before."""
        if self._waiting:
            self._spool()
        for _, owner, code in shingles.chunks(count_up(len(shingles))):
            self._write(np.bincount(owner), code)

    def done(self) -> tuple[BinaryIO, BinaryIO]:
        """The files, complete."""
        if self._waiting:
            self._spool()
        return self._flat, self._ends

    def _spool(self) -> None:
        owner, code = _shingle(self._waiting)
        self._write(np.bincount(owner, minlength=len(self._waiting)), code)
        self._waiting, self._words = [], 0

    def _write(self, sizes: Rows, code: NDArray[np.uint32]) -> None:
        self._ends.write((np.cumsum(sizes) + self._total).astype(np.int64).tobytes())
        self._flat.write(code.tobytes())
        self._total += len(code)
        self._done += len(sizes)
        self._seen(self._done)


def _shingle(rows: list[list[str]]) -> tuple[Rows, NDArray[np.uint32]]:
    """(row, shingle) sorted and without repetition."""
    owner = np.repeat(np.arange(len(rows)), [len(words) for words in rows]).astype(np.uint64)
    word = np.fromiter([zlib.crc32(word.encode()) for words in rows for word in words], np.uint64, len(owner))
    pair = _mix(_mix(word[:-1]) + word[1:] * np.uint64(3))[owner[1:] == owner[:-1]]
    pair_owner = owner[1:][owner[1:] == owner[:-1]]
    low = np.uint64(0xFFFFFFFF)
    codes = np.concatenate([_mix(word) & low, pair & low])
    key = distinct(np.concatenate([owner, pair_owner]) << np.uint64(32) | codes)
    return (key >> np.uint64(32)).astype(np.int64), (key & low).astype(np.uint32)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64: every bit of the input moves every bit of the output."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ value >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ value >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(31)


def mixed(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """[n] numbers that look random, the same for the same value and seed."""
    salt = _mix(np.array([seed % 2**64], np.uint64))
    return _mix(_mix(values) ^ salt)


def _shape(threshold: float) -> tuple[int, int]:
    """(bands, hashes per band) so that a pair at the threshold shares a band but for a chance of `MISSED`."""
    ideal = math.log(0.25) / math.log(threshold) if threshold < 1 else 10
    width = int(min(10, max(ideal, 3 if threshold >= CLOSE else 1)))
    collide = min(threshold**width, 1 - 1e-9)
    return max(4, math.ceil(math.log(MISSED) / math.log(1 - collide))), width


def _bands(shingles: Shingles, rows: Rows, threshold: float) -> NDArray[np.uint32]:
    """[bands, n] a hash of each band of each row's MinHash signature."""
    from rensa import RMinHash

    bands, width = _shape(threshold)
    with tempfile.TemporaryFile(dir=shingles.folder) as file:
        result = np.memmap(file, np.uint32, "w+", shape=(bands, len(rows))).view(np.ndarray)
    for begin, end in _pieces(
        lambda begin, end: np.maximum(shingles.size_of(rows[begin:end]), bands * width), len(rows), CHUNK_SHINGLES
    ):
        owner, code = shingles.gather(rows[begin:end])
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=end - begin))]).astype(np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            _mix(code.astype(np.uint64)), offsets, bands * width, SEED
        )
        signature = np.array(matrix.to_rows(), np.uint64).reshape(end - begin, bands, width)
        key = np.zeros((end - begin, bands), np.uint64)
        for place in range(width):
            key = _mix(key ^ signature[:, :, place])
        result[:, begin:end] = (key >> np.uint64(32)).T
    return result


def _candidates(band: NDArray[np.uint32], tie: NDArray[np.uint32]) -> Iterator[Iterator[tuple[Rows, Rows]]]:
    """Pairs of rows that share a band, those that share the next band as well side by side; in pieces, by distance."""
    ordered = np.sort(band)
    several = distinct(ordered[1:][ordered[1:] == ordered[:-1]])
    shared = np.flatnonzero(is_among(several, band)).astype(numbering(len(band)))
    order: Rows = shared[np.lexsort((tie[shared], band[shared]))]
    key = band[order]
    for distance in range(1, min(WINDOW, len(band) - 1) + 1):
        same = np.flatnonzero(key[distance:] == key[:-distance])
        if not len(same):
            return
        yield (_ordered(order[at], order[at + distance]) for at in _slices(same))
    start = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    head = np.repeat(order[start], np.diff(np.append(start, len(key))))
    others = np.flatnonzero(head != order)
    yield (_ordered(head[at], order[at]) for at in _slices(others))


def _slices(places: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (places[begin : begin + CHUNK_PAIRS] for begin in range(0, len(places), CHUNK_PAIRS))


def _ordered(first: Rows, second: Rows) -> tuple[Rows, Rows]:
    return np.minimum(first, second), np.maximum(first, second)


def _could_reach(first: Rows, second: Rows, threshold: float) -> NDArray[np.bool_]:
    """Whether sets of these sizes can be that alike at all."""
    return np.asarray(np.minimum(first, second) >= threshold * np.maximum(first, second))


def _pieces(sizes: Callable[[int, int], NDArray[np.integer[Any]]], count: int, limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of 0..count whose sizes add up to about `limit`; at least one item each.

    `sizes` tells the sizes of a range.
    """
    begin = 0
    while begin < count:
        ends = np.cumsum(sizes(begin, min(begin + MOST_ROWS, count)))
        end = begin + max(1, int(np.searchsorted(ends, limit, "right")))
        yield begin, end
        begin = end


def _mapped(file: BinaryIO, dtype: np.dtype[Any]) -> NDArray[Any]:
    """What was written to a file, which may be closed then."""
    file.flush()
    return np.memmap(file, dtype, "r").view(np.ndarray) if file.tell() else np.zeros(0, dtype)
