"""Divides rows into train, validation and test by whole clusters, so that nothing in a test row was trained on.

Deterministic in the seed and independent of the rows' order: everything is decided by hashes of their content.
`docs/explanation/leak-proof-split.md` tells the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sartor.data.balance import Items, allocate
from sartor.data.clusters import Clusters, cluster
from sartor.data.columns import read_columns, write_columns
from sartor.data.dataset import NONE, Dataset
from sartor.data.groups import Rows, count_up, numbering
from sartor.data.residual import Residual, residual
from sartor.data.rows import Example
from sartor.data.similarity import Pairs, mixed, silent
from sartor.errors import DataError, Problem

PARTS = ("train", "validation", "test")
OUT = -1
"""Part of a row that is left out because it belongs with a row the user put into validation or test."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The part of each of n rows."""

    part: NDArray[np.int8]
    """[n] 0 train, 1 validation, 2 test, -1 left out."""
    given: NDArray[np.bool_]
    """[n] whether the user decided the row's part."""
    clusters: Clusters
    residual: Residual | None
    """None where there are no rows on one of the two sides."""
    seed: int
    twins: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    """For each row left out, in order, the given row it belongs with; -1 where it is a row of no data of ours."""
    against: Mapping[str, Any] | None = None
    """What was found by comparing with the files of `data.against`."""

    def indices(self, name: str) -> Rows:
        """The rows of a part, in the order of the data set."""
        return np.flatnonzero(self.part == PARTS.index(name))

    @property
    def divided(self) -> bool:
        """Whether there is more than training."""
        return bool((self.part != 0).any())

    @property
    def left_out(self) -> Rows:
        """The rows in no part."""
        return np.flatnonzero(self.part == OUT)

    def without(self, dataset: Dataset, twins: Mapping[int, int]) -> Splits:
        """The same with further rows left out, each with its twin (-1 without); how alike the parts are is measured anew."""
        part = self.part.copy()
        part[list(twins)] = OUT
        known = dict(zip(self.left_out.tolist(), self.twins.tolist(), strict=True)) | dict(twins)
        left_out = np.flatnonzero(part == OUT)
        shingles, content = self.clusters.shingles, dataset.index.content
        assert shingles is not None
        return replace(
            self,
            part=part,
            twins=np.array([known[int(row)] for row in left_out], np.int64),
            residual=residual(shingles, part, mixed(content[:, 0], self.seed), content, self.clusters.apart),
        )

    def write(self, path: Path) -> None:
        """Write the parts and clusters; what they were found by is not kept."""
        clusters = self.clusters
        columns: dict[str, NDArray[Any]] = {
            "part": self.part,
            "given": self.given.astype(np.uint8),
            "twins": self.twins.astype(np.int64),
            "of": clusters.of,
            "alike": clusters.alike,
        }
        columns |= {f"large {number}": group.astype(np.int64) for number, group in enumerate(clusters.large)}
        about = {"seed": self.seed, "residual": self.residual and self.residual.state(), "against": self.against}
        write_columns(path, columns, about)

    @classmethod
    def open(cls, path: Path) -> Self:
        """What was written before, mapped."""
        columns, about = read_columns(path)
        large = tuple(columns[name] for name in columns if name.startswith("large "))
        none = Pairs.join([])
        return cls(
            part=columns["part"],
            given=columns["given"].view(np.bool_),
            clusters=Clusters(columns["of"], columns["alike"], near=none, apart=none, large=large, shingles=None),
            residual=about["residual"] and Residual.restore(about["residual"]),
            seed=about["seed"],
            against=about["against"],
            twins=columns["twins"],
        )

    def json(self) -> dict[str, Any]:
        """Counts and figures, as a JSON object."""
        return {
            "rows": {name: len(self.indices(name)) for name in PARTS},
            "left_out": len(self.left_out),
            "seed": self.seed,
            "clusters": self.clusters.json(),
            "residual": self.residual.json() if self.residual else None,
            **({"against": self.against} if self.against is not None else {}),
        }


def split(
    dataset: Dataset,
    *,
    train: float,
    validation: float,
    test: float,
    near_duplicates: float,
    seed: int,
    stratify: str | None = None,
    fixed: Sequence[str | None] | NDArray[np.int8] | None = None,
    seen: Callable[[int], None] = silent,
) -> Splits:
    """Divide the data set by shares of its rows that add up to 1.

    `fixed` names the part of each row that has one already, or gives its number, -1 for none. Rows given for validation or test stay exactly as they are:
    other rows that belong with them are left out. `seen` is told how many rows have been read.

    Raises DataError D154 where a part with a share cannot have a row, D155 for an unknown column to stratify by.
    """
    given = _given(fixed, len(dataset))
    shares = _open_shares(dataset, given, np.array([train, validation, test]))
    # Rows given for training are still ours to divide when validation has to come from them.
    free = (given == OUT) | ((given == 0) & (shares[1] > 0) & ~(given == OUT).any())
    strata = _strata(dataset, stratify)
    clusters = cluster(dataset, near_duplicates, seen=seen)

    part = given.copy()
    owner = _owners(clusters, given, free)
    ours = np.flatnonzero(free & (owner[clusters.of] <= 0))
    key = mixed(dataset.index.content[:, 0], seed)
    if len(ours):
        part[ours] = _allocated(clusters, strata, key, ours, owner, shares)
    _require_rows(dataset, part, shares, clusters)

    left_out = np.flatnonzero(part == OUT)
    assert clusters.shingles is not None
    return Splits(
        part=part,
        given=given != OUT,
        clusters=clusters,
        residual=residual(clusters.shingles, part, key, dataset.index.content, clusters.apart),
        seed=seed,
        twins=_twins(clusters, part, left_out),
    )


def _given(fixed: Sequence[str | None] | NDArray[np.int8] | None, count: int) -> NDArray[np.int8]:
    """[n] the number of each row's part, -1 where it has none yet."""
    if fixed is None:
        return np.full(count, OUT, np.int8)
    if isinstance(fixed, np.ndarray):
        return fixed
    return np.array([OUT if role is None else PARTS.index(role) for role in fixed], np.int8)


def undivided(dataset: Dataset, near_duplicates: float, *, seen: Callable[[int], None] = silent) -> Splits:
    """All rows in train: for looking at a file that is not to be split, or too small for it."""
    nothing = np.zeros(len(dataset), np.bool_)
    found = cluster(dataset, near_duplicates, seen=seen)
    return Splits(part=nothing.astype(np.int8), given=nothing, clusters=found, residual=None, seed=0)


def _open_shares(dataset: Dataset, given: NDArray[np.int8], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3] shares of the rows that we divide; 0 for a part whose rows the user gave."""
    has = np.array([(given == part).any() for part in range(3)])
    shares = np.where(has & (np.arange(3) > 0), 0.0, shares)
    if (given == OUT).any() or not len(dataset):
        return shares
    if not has[0]:
        raise DataError(Problem("D154", "no row is left to train on: every source has the role validation or test"))
    if shares[2] > 0:
        fix = "add a source with role: test, give a source role: split, or set   split: {test: 0}"
        raise DataError(Problem("D154", "no row is left for test: every source has another role", fix=fix))
    return shares


def _strata(dataset: Dataset, column: str | None) -> NDArray[np.int32]:
    """[n] code of each row's stratum, numbered by name; rows without one share a code. Raises DataError D155."""
    if column is None:
        names: Sequence[str] = dataset.strata
        code = dataset.index.stratum
    elif column == "label" and dataset.labels:
        names, code = dataset.labels, dataset.index.label
    else:
        known: dict[str, int] = {}
        code = np.full(len(dataset), NONE, np.int32)
        met: set[str] = set()
        for at, row in enumerate(dataset):
            if column in row.columns:
                code[at] = known.setdefault(str(row.columns[column]), len(known))
            elif len(met) < 100:
                met.update(row.columns)
                met.update({"label"} if isinstance(row, Example) and row.label is not None else ())
        if not known and len(dataset):
            having = f"the rows have {', '.join(sorted(met))}" if met else "the rows have no further columns"
            what = f'no row has the column "{column}" that data.split.stratify names'
            raise DataError(Problem("D155", what, fix=f"{having}; or leave stratify out"))
        names = list(known)
    rank = np.empty(len(names) + 1, np.int32)
    rank[np.argsort(np.array([*names, ""], dtype=object), kind="stable")] = np.arange(len(names) + 1)
    return rank[code]


def _owners(clusters: Clusters, given: NDArray[np.int8], free: NDArray[np.bool_]) -> NDArray[np.int8]:
    """[clusters] the part that holds given rows of the cluster, the last of several; -1 where none does."""
    owner = np.full(clusters.count, OUT, np.int8)
    held = ~free & (given != OUT)
    np.maximum.at(owner, clusters.of[held], given[held])
    return owner


def _allocated(
    clusters: Clusters,
    strata: NDArray[np.int32],
    key: NDArray[np.uint64],
    ours: Rows,
    owner: NDArray[np.int8],
    shares: NDArray[np.float64],
) -> NDArray[np.int8]:
    """[ours] the part of each row."""
    names, of = _renumbered(clusters.of[ours])
    kinds, stratum = _renumbered(strata[ours])
    first = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, of, key[ours])
    by_key = np.argsort(first, kind="stable").astype(of.dtype)
    del first
    rank = np.empty_like(by_key)
    rank[by_key] = count_up(len(names))
    of = rank[of]
    items = _items(of, stratum, len(names), len(kinds))
    return allocate(items, shares, owner[names][by_key])[of]


def _items(of: Rows, stratum: Rows, count: int, strata: int) -> Items:
    """The clusters with how many rows of each stratum they have."""
    cell = of.astype(np.int64) * strata + stratum
    cell.sort()
    heads = np.flatnonzero(np.concatenate([[True], cell[1:] != cell[:-1]]))
    rows = np.diff(np.append(heads, len(cell))).astype(of.dtype)
    cell = cell[heads]
    return Items((cell // strata).astype(of.dtype), (cell % strata).astype(of.dtype), rows, count, strata)


def _renumbered(numbers: Rows) -> tuple[Rows, Rows]:
    """The numbers that occur, ascending, and [n] the place of each among them."""
    occurs = np.zeros(int(numbers.max()) + 1, np.bool_)
    occurs[numbers] = True
    place = np.cumsum(occurs, dtype=numbering(len(occurs))) - 1
    return np.flatnonzero(occurs), place[numbers]


def _require_rows(dataset: Dataset, part: NDArray[np.int8], shares: NDArray[np.float64], clusters: Clusters) -> None:
    """Raises DataError D154 where a part that should have rows has none."""
    empty = [name for number, name in enumerate(PARTS) if shares[number] > 0 and not (part == number).any()]
    if not empty or not len(dataset):
        return
    parts = int((shares > 0).sum())
    what = (
        f"too few rows: nothing is left for {' and '.join(empty)}. {_plural(len(dataset), 'row')} form "
        f"{_plural(clusters.count, 'cluster')} that must stay together (equal or nearly equal rows, equal prompts, equal groups), "
        f"and {parts} parts need at least {parts}"
    )
    fix = f"add at least {max(1, parts - clusters.count)} different rows, or set the share of {empty[-1]} to 0 in data.split"
    origin = dataset.origin(0)
    raise DataError(Problem("D154", what, file=origin.file, fix=fix))


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _twins(clusters: Clusters, part: NDArray[np.int8], left_out: Rows) -> Rows:
    """For each row left out, the first given row of its cluster in validation or test."""
    held = np.flatnonzero(part > 0)
    first = np.full(clusters.count, -1, np.int64)
    first[clusters.of[held][::-1]] = held[::-1]
    return first[clusters.of[left_out]]
