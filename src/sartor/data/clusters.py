"""Which rows belong together: equal group, equal prompt, equal or nearly equal text. A cluster is never divided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.dataset import Dataset, by_content
from sartor.data.groups import Rows, count_up, first_equal, first_same, most_common, numbering
from sartor.data.similarity import Forest, Pairs, Shingles, links, silent

LARGE_SHARE = 0.2
"""Rows that resemble each other are taken apart once they are more than this share of all different rows ..."""
LARGE_ROWS = 8
"""... and more than this many: then it is a common frame or a chain that links them, not a copy."""
FRAME = 0.3
"""Words that most rows share are a frame, if they make up this part of a row."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Of n rows, who belongs with whom."""

    of: NDArray[np.int32]
    """[n] the cluster of each row, numbered in an order that depends on content only."""
    alike: NDArray[np.int32]
    """[n] the same for rows that are linked by their text alone (equal or nearly equal)."""
    near: Pairs
    """Verified near-duplicates that were linked; not every pair of a cluster is listed."""
    apart: Pairs
    """Pairs at least half alike that were seen and not linked."""
    large: tuple[Rows, ...]
    """Groups of near-duplicates so large that only closer likeness was let count in them."""
    shingles: Shingles | None
    """What the rows are compared by: all their shingles, or those outside a frame that most rows share.

    None, and `near` and `apart` empty, for clusters that were read from disk.
    """

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.of.max()) + 1 if len(self.of) else 0

    @property
    def sizes(self) -> NDArray[np.int64]:
        """[count] rows in each cluster."""
        return np.bincount(self.of, minlength=self.count)

    def json(self) -> dict[str, Any]:
        """Counts, as a JSON object."""
        sizes = self.sizes
        return {
            "count": self.count,
            "largest": int(sizes.max(initial=0)),
            "with_several_rows": int((sizes > 1).sum()),
            "near_duplicate_rows": int(len(self.alike) - self.alike.max(initial=-1) - 1),
            "taken_apart": sum(len(group) for group in self.large),
        }


def cluster(dataset: Dataset, near_duplicates: float, *, seen: Callable[[int], None] = silent) -> Clusters:
    """Find the clusters. `near_duplicates` is the Jaccard similarity from which two rows count as the same.

    The result is a function of the rows' content, whatever their order. `seen` is told how many rows have been read.
    """
    index = dataset.index
    shingles = dataset.shingles(seen)
    order = by_content(index.content).astype(numbering(len(dataset)))
    first = first_equal(index.text[order])
    speakers = order[first == count_up(len(order))]
    own = _own(shingles, speakers)
    near = _near(shingles, own, speakers, near_duplicates)

    by_text = Forest(len(dataset))
    by_text.join(order, order[first])
    by_text.join(near.linked.first, near.linked.second)
    together = Forest(len(dataset))
    together.join(count_up(len(dataset)), by_text.roots())
    for key in (asking(index.prompt), index.group):
        together.join(*_equal(key))
    return Clusters(
        of=_numbered(together.roots(), order),
        alike=_numbered(by_text.roots(), order),
        near=near.linked,
        apart=near.apart,
        large=tuple(near.large),
        shingles=shingles if own is None else own,
    )


def asking(prompt: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[n] the prompts, 0 for one that more than half of all rows have: then it is an instruction and identifies no row."""
    shared = most_common(prompt, max(len(prompt) // 2, 4))
    return prompt if shared is None else np.where(prompt == shared, np.uint64(0), prompt)


def _equal(key: NDArray[np.uint64]) -> tuple[Rows, Rows]:
    """Pairs that unite all rows of equal key; a key of 0 unites nothing."""
    rows = count_up(len(key))[key != 0]
    return rows, rows[first_equal(key[rows])]


@dataclass(frozen=True, slots=True)
class _Near:
    """Links between rows of different text."""

    linked: Pairs
    apart: Pairs
    large: list[Rows]
    """Groups that were linked but are too large to be copies; their links are among `apart`."""


def _own(shingles: Shingles, rows: Rows) -> Shingles | None:
    """All sets less the frame that most of `rows` share; None where there is no frame worth the name."""
    if len(rows) <= LARGE_ROWS:
        return None
    frame = shingles.frame(rows)
    if len(frame) < FRAME * float(np.median(shingles.size_of(rows))):
        return None
    return shingles.without(count_up(len(shingles)), frame)


def _near(shingles: Shingles, own: Shingles | None, rows: Rows, threshold: float) -> _Near:
    """Link `rows`; what is too large to be copies is linked again without its common frame, then more and more closely."""
    limit = max(LARGE_ROWS, int(LARGE_SHARE * len(rows)))
    whole = _link(shingles, rows, threshold, limit, own)
    linked, apart, pending = [whole.linked], [whole.apart], whole.large
    for level in dict.fromkeys((threshold, (1 + threshold) / 2, (3 + threshold) / 4)):
        large = []
        for group in pending:
            bare = shingles.without(group, shingles.frame(group))
            part = _link(bare, count_up(len(group)), level, limit, None)
            linked.append(part.linked.named(group))
            apart.append(part.apart.named(group))
            large += [group[members] for members in part.large]
        pending = large
    told = shingles if own is None else own
    return _Near(_measured(told, Pairs.join(linked)), _measured(told, Pairs.join(apart)), whole.large)


def _link(shingles: Shingles, rows: Rows, threshold: float, limit: int, own: Shingles | None) -> _Near:
    near, close = links(shingles, rows, threshold, own=own)
    forest = Forest(len(shingles))
    forest.join(near.first, near.second)
    roots = forest.roots()
    large = np.flatnonzero(np.bincount(roots, minlength=len(shingles)) > limit)
    chained = np.isin(roots[near.first], large)
    return _Near(
        near.where(~chained), Pairs.join([close, near.where(chained)]), [rows[roots[rows] == root] for root in large]
    )


def _measured(shingles: Shingles, pairs: Pairs) -> Pairs:
    """The pairs with their similarity in these sets."""
    return Pairs(pairs.first, pairs.second, shingles.jaccard(pairs.first, pairs.second))


def _numbered(roots: Rows, order: Rows) -> NDArray[np.int32]:
    """The trees numbered by where they first appear in `order`."""
    first = first_same(roots[order], len(roots))
    rank = np.cumsum(first == count_up(len(first)), dtype=np.int32) - np.int32(1)
    numbers = np.empty(len(roots), np.int32)
    numbers[order] = rank[first]
    return numbers
