"""Texts as rows of a sparse matrix: words and pairs of words, hashed, weighted by tf-idf and of length 1."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.similarity import WORD
from sartor.data.wording import normal

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def words(text: str) -> list[str]:
    """The words of a text regardless of case; in scripts without spaces, its characters."""
    return words_of(normal(text))


def words_of(normal_text: str) -> list[str]:
    """The words of a text that is in normal form."""
    return WORD.findall(normal_text)


def hashed(texts: Iterable[str], width: int) -> csr_array:
    """[n, width] float32; an entry is (1 + log count) * log((1 + n) / (1 + rows with it)), a row has the norm 1 or 0.

    Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning", without signs.
    """
    found: list[int] = []
    ends = [0]
    for text in texts:
        own = [word.encode() for word in words(text)]
        found.extend(zlib.crc32(word) % width for word in own)
        found.extend(zlib.crc32(b" ".join(pair)) % width for pair in pairwise(own))
        ends.append(len(found))
    return weighted(found, ends, width)


def weighted(found: Sequence[int], ends: Sequence[int], width: int) -> csr_array:
    """The matrix of n rows of columns `found`, the i-th of them in `found[ends[i] : ends[i + 1]]`."""
    from scipy.sparse import csr_array

    ones = np.ones(len(found), np.float32)
    matrix: Any = csr_array((ones, np.array(found, np.int32), np.array(ends, np.int64)), shape=(len(ends) - 1, width))
    matrix.sum_duplicates()
    rows_with = np.bincount(matrix.indices, minlength=width)
    rarity = np.log((1 + matrix.shape[0]) / (1 + rows_with)).astype(np.float32)
    matrix.data = (1 + np.log(matrix.data)) * rarity[matrix.indices]
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    norm = np.sqrt(np.bincount(row, matrix.data.astype(np.float64) ** 2, matrix.shape[0]))
    matrix.data = (matrix.data / np.maximum(norm, 1e-12)[row]).astype(np.float32)
    return matrix
