"""Names a state of the data by what decides it, and tells two states apart row by row."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from sartor.data.dataset import Dataset
from sartor.data.groups import Rows
from sartor.data.split import OUT, PARTS, Splits
from sartor.recipe.schema import Data

VERSION = "version.json"
SHORT = 12
"""Characters of a version's digest that are shown and name its folder."""


@dataclass(frozen=True, slots=True)
class Version:
    """What decides a state of the data. Two are equal exactly where their `digest` is."""

    rows: str
    """sha256 over the rows' contents, in any order."""
    order: str
    """sha256 over the rows' contents in their order."""
    parts: Mapping[str, str]
    """sha256 over the contents of each part, in any order."""
    counts: Mapping[str, int]
    transforms: Mapping[str, Any]
    """How the rows were cleaned, augmented and divided, as the recipe says."""
    renderer: str | None
    """Digest of vocabulary, template and what is learnt; None where the rows are no tokens yet."""

    @property
    def digest(self) -> str:
        """sha256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def json(self) -> dict[str, Any]:
        """Everything as one object."""
        return {"version": self.digest, **asdict(self)}

    @classmethod
    def restore(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `json`."""
        return cls(**{name: value for name, value in body.items() if name != "version"})


def version_of(dataset: Dataset, splits: Splits, data: Data | None, renderer: str | None = None) -> Version:
    """The version of prepared rows. `data` is the recipe's section, without the files, whose rows count and not their names."""
    chosen = {} if data is None else data.model_dump(mode="json", exclude={"sources"})
    return Version(
        rows=dataset.fingerprint,
        order=hashlib.sha256(np.ascontiguousarray(dataset.index.content).astype(">u8").tobytes()).hexdigest(),
        parts={name: dataset.subset(splits.indices(name)).fingerprint for name in PARTS},
        counts={name: len(splits.indices(name)) for name in PARTS} | {"left out": len(splits.left_out)},
        transforms=chosen,
        renderer=renderer,
    )


class Held(NamedTuple):
    """One side of a comparison."""

    dataset: Dataset
    splits: Splits

    def part(self, row: int) -> str:
        """The part of a row."""
        number = int(self.splits.part[row])
        return "left out" if number == OUT else PARTS[number]


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows by what happened to them, as their numbers in the old and in the new data."""

    same: int
    """Rows that are in both, in the same part."""
    added: Rows
    removed: Rows
    changed: list[tuple[int, int]]
    """The same row with another content: equal id, else equal prompt, else equal place in the same file."""
    moved: list[tuple[int, int]]
    """The same content in another part."""


def changes(old: Held, new: Held) -> Changes:
    """Compare by content. The order of the rows does not matter; copies are counted."""
    same, moved, gone, come = _by_content(old, new)
    changed: list[tuple[int, int]] = []
    for keys in (_ids, _prompts, _places):
        pairs, gone, come = _paired(keys(old.dataset, gone), keys(new.dataset, come))
        changed += pairs
    return Changes(same, np.array(come, np.int64), np.array(gone, np.int64), sorted(changed), sorted(moved))


def _by_content(old: Held, new: Held) -> tuple[int, list[tuple[int, int]], list[int], list[int]]:
    """(rows in both and in the same part, pairs in different parts, rows only in the old data, only in the new)."""
    known: dict[bytes, list[int]] = defaultdict(list)
    for row, key in enumerate(_contents(old.dataset)):
        known[key].append(row)
    same, moved, come = 0, [], []
    for row, key in enumerate(_contents(new.dataset)):
        rows = known.get(key)
        if not rows:
            come.append(row)
            continue
        part = new.splits.part[row]
        at = next((place for place, other in enumerate(rows) if old.splits.part[other] == part), None)
        if at is None:
            moved.append((rows.pop(0), row))
        else:
            rows.pop(at)
            same += 1
    return same, moved, sorted(row for rows in known.values() for row in rows), come


def _contents(dataset: Dataset) -> Iterator[bytes]:
    return (entry.tobytes() for entry in dataset.index.content)


Keyed = Iterable[tuple[Any, int]]
"""(what a row may be known by, or None; the row)."""


def _ids(dataset: Dataset, rows: list[int]) -> Keyed:
    for row in rows:
        identity = dataset[row].id
        yield (None if identity == str(dataset.origin(row)) else identity), row


def _prompts(dataset: Dataset, rows: list[int]) -> Keyed:
    return ((int(dataset.index.prompt[row]) or None, row) for row in rows)


def _places(dataset: Dataset, rows: list[int]) -> Keyed:
    for row in rows:
        origin = dataset.origin(row)
        yield (Path(origin.file).name, origin.line), row


def _paired(old: Keyed, new: Keyed) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pairs of rows whose key is theirs alone on each side, and the rows that are left on each."""
    sides = [list(old), list(new)]
    unique = [
        {key: row for key, row in side if key is not None and count[key] == 1}
        for side in sides
        for count in [Counter(key for key, _ in side)]
    ]
    pairs = [(row, unique[1][key]) for key, row in unique[0].items() if key in unique[1]]
    taken = [{pair[number] for pair in pairs} for number in (0, 1)]
    left = [[row for _, row in side if row not in taken[number]] for number, side in enumerate(sides)]
    return pairs, left[0], left[1]
