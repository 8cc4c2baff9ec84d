"""A lazy sequence of rows on disk: JSON lines plus about a hundred bytes per row in memory, whatever the rows' length."""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sartor.data.rows import Example, Origin, Row, row_from_json
from sartor.data.wording import answered, asked, fingerprint64, normal

ROWS, INDEX = "rows.jsonl", "index.npz"
NONE = -1
"""Code of a row without a label or stratum."""


class Index(NamedTuple):
    """What is kept in memory of n rows."""

    offset: NDArray[np.int64]
    """[n + 1] where each row begins in the file; the last entry is its size."""
    content: NDArray[np.uint64]
    """[n, 4] sha256 of the row without origin and id, as big-endian words."""
    prompt: NDArray[np.uint64]
    """[n] of what is asked, without system turns and regardless of case and spacing; 0 where nothing is asked."""
    text: NDArray[np.uint64]
    """[n] of the whole prompt and the answer, regardless of case and spacing."""
    group: NDArray[np.uint64]
    """[n] of the group; 0 without."""
    stratum: NDArray[np.int32]
    label: NDArray[np.int32]
    kind: NDArray[np.int32]
    file: NDArray[np.int32]
    """[n] codes into the lists of names."""
    line: NDArray[np.int64]


class Dataset:
    """Rows in the order they were written. A subset shares the file with the whole."""

    def __init__(self, folder: Path, index: Index, names: dict[str, tuple[str, ...]], file: _File) -> None:
        self.folder, self.index = folder, index
        self.strata, self.labels, self.kinds, self.files = (names[key] for key in ("stratum", "label", "kind", "file"))
        self._names, self._file = names, file
        self._at = index.offset[:-1]
        self._size = np.diff(index.offset)

    @classmethod
    def write(cls, rows: Iterable[Row], folder: Path) -> Self:
        """Spool rows into `folder` as they come. A row without an id gets ``file:line``."""
        folder.mkdir(parents=True, exist_ok=True)
        writer = _Writer()
        with (folder / ROWS).open("wb") as file:
            for row in rows:
                file.write(writer.add(row))
        index, names = writer.index(), writer.names()
        listing = np.frombuffer(json.dumps(names).encode(), np.uint8)
        with (folder / INDEX).open("wb") as file:
            np.savez(file, listing, *index)
        return cls(folder, index, names, _File(folder / ROWS))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The data set written to `folder` before."""
        with np.load(folder / INDEX, allow_pickle=False) as arrays:
            listing, *columns = (arrays[f"arr_{number}"] for number in range(len(Index._fields) + 1))
        names = {key: tuple(value) for key, value in json.loads(listing.tobytes()).items()}
        index = Index(*columns)
        return cls(folder, index, names, _File(folder / ROWS))

    def subset(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Dataset:
        """The rows at `indices`, in that order; nothing is copied but their index."""
        chosen = np.asarray(indices, dtype=np.int64)
        index = self.index._replace(**{name: getattr(self.index, name)[chosen] for name in Index._fields[1:]})
        view = Dataset(self.folder, index, self._names, self._file)
        view._at, view._size = self._at[chosen], self._size[chosen]
        return view

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, i: int) -> Row:
        return row_from_json(json.loads(self.line(i)))

    def __iter__(self) -> Iterator[Row]:
        for i in range(len(self)):
            yield self[i]

    def line(self, i: int) -> bytes:
        """The row as it lies on disk: one JSON object in UTF-8."""
        i = range(len(self))[i]
        return os.pread(self._file.number, int(self._size[i]), int(self._at[i]))

    def origin(self, i: int) -> Origin:
        """Where row `i` was read, without reading it."""
        return Origin(self.files[self.index.file[i]], int(self.index.line[i]))

    def content_hash(self, i: int) -> str:
        """`Row.content_hash` of row `i`, without reading it."""
        digest: bytes = self.index.content[i].astype(">u8").tobytes()
        return digest.hex()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the rows' content hashes; the same for every order of the rows."""
        ordered = self.index.content[np.lexsort(self.index.content.T[::-1])]
        return hashlib.sha256(ordered.astype(">u8").tobytes()).hexdigest()


class _File:
    """An open file that its readers share; closed with the last of them."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self.number)


class _Writer:
    """Turns rows into lines and gathers their index."""

    def __init__(self) -> None:
        self._offset = array("q", [0])
        self._content = bytearray()
        self._keys = {name: array("Q") for name in ("prompt", "text", "group")}
        self._codes = {name: array("i") for name in ("stratum", "label", "kind", "file")}
        self._known: dict[str, dict[str, int]] = {name: {} for name in self._codes}
        self._line = array("q")

    def add(self, row: Row) -> bytes:
        body = row.to_json()
        origin, identity = body.pop("origin"), body.pop("id")
        content = json.dumps(body, sort_keys=True, ensure_ascii=False)
        head = json.dumps({"id": identity or str(row.origin), "origin": origin}, ensure_ascii=False)
        line = f"{head[:-1]}, {content[1:]}\n".encode()
        self._offset.append(self._offset[-1] + len(line))
        self._content += hashlib.sha256(content.encode()).digest()
        question = normal(asked(row))
        self._keys["prompt"].append(fingerprint64(question) if question else 0)
        self._keys["text"].append(fingerprint64(f"{normal(row.prompt_text())}\n{normal(answered(row))}"))
        self._keys["group"].append(0 if row.group is None else fingerprint64(row.group))
        self._code("stratum", row.stratum)
        self._code("label", row.label if isinstance(row, Example) else None)
        self._code("kind", row.kind)
        self._code("file", row.origin.file)
        self._line.append(row.origin.line)
        return line

    def index(self) -> Index:
        keys = {name: np.array(values, np.uint64) for name, values in self._keys.items()}
        codes = {name: np.array(values, np.int32) for name, values in self._codes.items()}
        return Index(
            offset=np.array(self._offset, np.int64),
            content=np.frombuffer(bytes(self._content), ">u8").astype(np.uint64).reshape(-1, 4),
            prompt=keys["prompt"],
            text=keys["text"],
            group=keys["group"],
            stratum=codes["stratum"],
            label=codes["label"],
            kind=codes["kind"],
            file=codes["file"],
            line=np.array(self._line, np.int64),
        )

    def names(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(known) for name, known in self._known.items()}

    def _code(self, name: str, value: str | None) -> None:
        known = self._known[name]
        self._codes[name].append(NONE if value is None else known.setdefault(value, len(known)))
