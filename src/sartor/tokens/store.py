"""Tokenised rows on disk, read through memory maps: memory does not grow with the data beyond 32 bytes a row.

Flat files: ids, the runs of equal loss weight, labels, and for each row where its own of these end and which row of the
dataset it is. Of images only where they lie is kept, each once. `tokens.json` is written last; a folder without it is no token set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import astuple
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from sartor.data.rows import Image
from sartor.tokens.batch import Rendered

_RUN = np.dtype([("start", "<i4"), ("end", "<i4"), ("weight", "<f4")])
_ROW = np.dtype([("ids", "<i8"), ("runs", "<i8"), ("labels", "<i8"), ("row", "<i8")])
_SHOWN = np.dtype([("row", "<i8"), ("image", "<i4")])
_ID = np.dtype("<i4")
_LABEL = np.dtype("<f4")
_CHUNK = 1 << 14
"""Tokens written at a time."""


class TokenRows(Protocol):
    """Tokenised rows, in a folder or chosen from one."""

    @property
    def lengths(self) -> np.ndarray:
        """[rows] int64, tokens of each row."""
        ...

    @property
    def rows(self) -> np.ndarray:
        """[rows] int64, index of each row in its dataset."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Rendered: ...


class TokenSet:
    """A sequence of `Rendered` rows in a folder."""

    FILES = ("ids.bin", "runs.bin", "labels.bin", "rows.bin", "shown.bin", "images.json", "tokens.json")
    VERSION = 3
    """Of the form of these files."""

    def __init__(self, folder: Path, facts: dict[str, int]) -> None:
        self.folder = folder
        self.tokens, self.supervised, self._count = facts["tokens"], facts["supervised"], facts["rows"]
        self._ids = _map(folder / "ids.bin", _ID)
        self._runs = _map(folder / "runs.bin", _RUN)
        self._labels = _map(folder / "labels.bin", _LABEL)
        self._rows = _map(folder / "rows.bin", _ROW)
        self._shown = _map(folder / "shown.bin", _SHOWN)
        told = json.loads((folder / "images.json").read_text(encoding="utf-8"))
        self._images = [Image(*fields) for fields in told]

    @classmethod
    def write(cls, rendered: Iterable[Rendered], folder: Path) -> TokenSet:
        """Store rows as they come, replacing what was in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        summary = folder / "tokens.json"
        summary.unlink(missing_ok=True)
        paths = [folder / name for name in cls.FILES[:-1]]
        try:
            facts = _write(rendered, paths)
            partial = folder / "tokens.json.partial"
            partial.write_text(json.dumps(facts), encoding="utf-8")
            os.replace(partial, summary)
        finally:
            if not summary.exists():
                for path in paths:
                    path.unlink(missing_ok=True)
        return cls(folder, facts)

    @classmethod
    def open(cls, folder: Path) -> TokenSet:
        """A set written before. Raises FileNotFoundError where there is none."""
        return cls(folder, json.loads((folder / "tokens.json").read_text(encoding="utf-8")))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Rendered:
        if not 0 <= index < self._count:
            raise IndexError(index)
        ids_from, runs_from, labels_from, _ = self._rows[index - 1].tolist() if index else (0, 0, 0, 0)
        ids_to, runs_to, labels_to, row = self._rows[index].tolist()
        ids = np.array(self._ids[ids_from:ids_to], dtype=np.int32)
        weight = np.zeros(len(ids), dtype=np.float32)
        for start, end, value in self._runs[runs_from:runs_to].tolist():
            weight[start:end] = value
        labels = np.array(self._labels[labels_from:labels_to], dtype=np.float32)
        return Rendered(ids, weight, row, labels, self._images_of(index))

    def _images_of(self, index: int) -> tuple[Image, ...]:
        if not self._images:
            return ()
        first, last = np.searchsorted(self._shown["row"], (index, index + 1)).tolist()
        return tuple([self._images[number] for number in self._shown["image"][first:last].tolist()])

    def __iter__(self) -> Iterator[Rendered]:
        return (self[index] for index in range(len(self)))

    @cached_property
    def lengths(self) -> np.ndarray:
        """[rows] int64, tokens of each row."""
        return np.diff(self._rows["ids"], prepend=0).astype(np.int64)

    @cached_property
    def rows(self) -> np.ndarray:
        """[rows] int64, index of each row in its dataset."""
        return np.array(self._rows["row"], dtype=np.int64)


class TokenView:
    """Some rows of a token set, in a given order; nothing is copied.

    Args:
        whole: the set.
        chosen: [k] which of its rows.
    """

    def __init__(self, whole: TokenSet, chosen: np.ndarray) -> None:
        self._whole, self._chosen = whole, chosen
        self.lengths = whole.lengths[chosen]
        """[k] int64, tokens of each row."""
        self.rows = whole.rows[chosen]
        """[k] int64, index of each row in its dataset."""

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Rendered:
        return self._whole[int(self._chosen[index])]


def _write(rendered: Iterable[Rendered], paths: Sequence[Path]) -> dict[str, int]:
    tokens = runs = labels = supervised = count = 0
    images: dict[Image, int] = {}
    with ExitStack() as stack:
        ids, run_file, label_file, row_file, shown_file = (stack.enter_context(path.open("wb")) for path in paths[:-1])
        for chunk in _chunks(rendered):
            ends = np.cumsum([len(row) for row in chunk])
            weight = np.concatenate([row.weight for row in chunk])
            own, counts = _runs(weight, ends)
            entries = np.empty(len(chunk), _ROW)
            entries["ids"], entries["runs"] = ends + tokens, np.cumsum(counts) + runs
            entries["labels"] = np.cumsum([len(row.labels) for row in chunk]) + labels
            entries["row"] = [row.row for row in chunk]
            ids.write(np.concatenate([row.ids for row in chunk]).astype(_ID).tobytes())
            run_file.write(own.tobytes())
            label_file.write(np.concatenate([row.labels for row in chunk]).astype(_LABEL).tobytes())
            row_file.write(entries.tobytes())
            shown = [
                (count + place, images.setdefault(image, len(images)))
                for place, row in enumerate(chunk)
                for image in row.images
            ]
            shown_file.write(np.array(shown, _SHOWN).tobytes())
            tokens, runs, count = tokens + int(ends[-1]), runs + len(own), count + len(chunk)
            labels = int(entries["labels"][-1])
            supervised += sum(row.supervised for row in chunk)
    paths[-1].write_text(json.dumps([astuple(image) for image in images]), encoding="utf-8")
    return {"version": TokenSet.VERSION, "rows": count, "tokens": tokens, "supervised": supervised}


def _chunks(rendered: Iterable[Rendered]) -> Iterator[list[Rendered]]:
    """Rows in lists of about `_CHUNK` tokens."""
    chunk: list[Rendered] = []
    size = 0
    for row in rendered:
        chunk.append(row)
        size += len(row) + 1
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def _runs(weight: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stretches of equal weight other than zero of rows that end at `ends`, and how many each row has."""
    edge = np.empty(len(weight) + 1, np.bool_)
    edge[[0, -1]] = True
    np.not_equal(weight[1:], weight[:-1], out=edge[1:-1])
    edge[ends] = True
    edges = np.flatnonzero(edge)
    starts = edges[:-1][weight[edges[:-1]] != 0]
    row = np.searchsorted(ends, starts, "right")
    first = np.concatenate([[0], ends])[row]
    runs = np.empty(len(starts), _RUN)
    runs["start"] = starts - first
    runs["end"] = edges[np.searchsorted(edges, starts) + 1] - first
    runs["weight"] = weight[starts]
    return runs, np.bincount(row, minlength=len(ends))
