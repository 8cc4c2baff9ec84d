"""Which texts hold the words of which items: n-grams of words, as the benchmarks of GPT-3 were cleaned.

Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C: n is the 5th percentile of the items' lengths in
words, at least 8 and at most 13; letters count regardless of case, signs and spaces do not count. Departures: an item is
found where a text holds at least half of its n-grams rather than one, so that a common phrase convicts nobody; n-grams
that more than ten items share are a frame of the benchmark and are left out (they leave out those of ten *training*
texts, which hides what is leaked often); an item shorter than n is found where it stands in a text as a whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.features import words
from sartor.data.groups import Rows
from sartor.data.similarity import mixed

LEAST, MOST = 8, 13
SHORTEST = 6
"""An item of fewer words stands in many texts by chance; only equal texts tell of it."""
FRAME = 10
FRAME_SHARE = 0.01
FOUND = 0.5
"""Share of an item's n-grams from which a text holds the item."""
CHUNK_WORDS = 1 << 18


@dataclass(frozen=True, slots=True)
class Held:
    """k pairs of a text and the item that it holds the most of."""

    text: Rows
    item: Rows
    share: NDArray[np.float64]
    """[k] part of the item's n-grams that stand in the text."""

    def __len__(self) -> int:
        return len(self.text)


NOTHING = Held(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class Grams:
    """The n-grams of m items, ready to be looked for."""

    def __init__(self, items: Sequence[str]) -> None:
        said = [codes_of(words(item)) for item in items]
        lengths = np.array([len(own) for own in said], np.int64)
        self.n = int(np.clip(np.quantile(lengths, 0.05), LEAST, MOST)) if len(lengths) else LEAST
        """Words of an n-gram."""
        codes, owners = [], []
        for length, owner, code in _grams(said, self.n):
            whole = lengths[owner] == length if length < self.n else np.ones(len(owner), np.bool_)
            codes.append(code[whole & (lengths[owner] >= SHORTEST)])
            owners.append(owner[whole & (lengths[owner] >= SHORTEST)])
        pairs = np.unique(np.stack([np.concatenate(codes), np.concatenate(owners).astype(np.uint64)], 1), axis=0)
        self._code, self._item = pairs[:, 0], pairs[:, 1].astype(np.int64)
        shared = np.searchsorted(self._code, self._code, "right") - np.searchsorted(self._code, self._code, "left")
        own = shared <= max(FRAME, FRAME_SHARE * len(items))
        self._code, self._item = self._code[own], self._item[own]
        self._size = np.bincount(self._item, minlength=len(items))
        bits = min(max(len(self._code) * 8, 1).bit_length(), 24)
        self._shift = np.uint64(64 - bits)
        self._may = np.zeros(1 << bits, np.bool_)
        """By the first bits of a code, whether any begins with them: most n-grams of most texts need no search."""
        self._may[self._code >> self._shift] = True

    def held_by(self, texts: Iterable[str]) -> Held:
        """The texts that hold an item, each with the item it holds the most of, in the order of the texts."""
        search = Search(self)
        for text in texts if len(self) else ():
            search.add(codes_of(words(text)))
        return search.held()

    def __len__(self) -> int:
        """n-grams that are looked for."""
        return len(self._code)

    def held_in(self, first: int, chunk: Sequence[Sequence[int]]) -> Held:
        """The same for texts given by the codes of their words, the first of them being number `first`."""
        if not len(self):
            return NOTHING
        met = []
        for _, owner, code in _grams(chunk, self.n):
            likely = self._may[code >> self._shift]
            owner, code = owner[likely], code[likely]
            begin = np.searchsorted(self._code, code, "left")
            known = self._code[np.minimum(begin, len(self._code) - 1)] == code
            begin, owner = begin[known], owner[known]
            count = np.searchsorted(self._code, code[known], "right") - begin
            place = np.repeat(begin - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))
            met.append(np.stack([np.repeat(owner, count), place], 1))
        both = np.unique(np.concatenate(met), axis=0)
        pair, counts = np.unique(np.stack([both[:, 0], self._item[both[:, 1]]], 1), axis=0, return_counts=True)
        share = counts / self._size[pair[:, 1]]
        order = np.lexsort((pair[:, 1], -share, pair[:, 0]))
        order = order[share[order] >= FOUND]
        best = order[np.diff(pair[order, 0], prepend=-1) != 0]
        return Held(pair[best, 0] + first, pair[best, 1], share[best])


class Search:
    """Looks for items in texts that come one by one."""

    def __init__(self, grams: Grams) -> None:
        self._grams = grams
        self._chunk: list[Sequence[int]] = []
        self._size = self._first = 0
        self._found: list[Held] = []

    def add(self, codes: Sequence[int]) -> None:
        """The next text, as the codes of its words."""
        self._chunk.append(codes)
        self._size += len(codes)
        if self._size >= CHUNK_WORDS:
            self._look()

    def held(self) -> Held:
        """The texts that hold an item, each with the item it holds the most of, in the order of the texts."""
        if self._chunk:
            self._look()
        columns = [(part.text, part.item, part.share) for part in (NOTHING, *self._found)]
        text, item, share = (np.concatenate(column) for column in zip(*columns, strict=True))
        return Held(text, item, share)

    def _look(self) -> None:
        self._found.append(self._grams.held_in(self._first, self._chunk))
        self._first += len(self._chunk)
        self._chunk, self._size = [], 0


def codes_of(said: Iterable[str]) -> list[int]:
    """32 bits for each word."""
    return [zlib.crc32(word.encode()) for word in said]


def _grams(said: Sequence[Sequence[int]], longest: int) -> Iterator[tuple[int, NDArray[Any], NDArray[np.uint64]]]:
    """(length, [k] number of the text, [k] hash) of all runs of `SHORTEST` to `longest` words."""
    owner = np.repeat(np.arange(len(said)), [len(own) for own in said])
    word = np.fromiter(chain.from_iterable(said), np.uint64, len(owner))
    code = word = mixed(word, 3)
    for length in range(1, longest + 1):
        if length > 1:
            code = mixed(code[:-1], length) + word[length - 1 :]
        if length >= SHORTEST:
            whole = owner[: len(code)] == owner[length - 1 :]
            yield length, owner[: len(code)][whole], code[whole]
