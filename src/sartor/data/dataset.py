"""A lazy sequence of rows on disk: JSON lines, and an index of about ninety bytes per row that is mapped, not held."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sartor.data.columns import HELD, Columns, Kind, read_columns
from sartor.data.groups import Rows
from sartor.data.rows import Example, Origin, Row, row_from_json, without_images
from sartor.data.similarity import Gathering, Shingles, silent
from sartor.data.wording import answered, asked, fingerprint64, normal, similarity_text

ROWS, INDEX, SHINGLES = "rows.jsonl", "index.columns", "shingles.columns"
NONE = -1
"""Code of a row without a label or stratum."""
BLOCK = 1 << 18
"""Bytes read at a time where all rows are looked at; a longer row comes alone."""
_ID = '{"id": '
_PARSE = json.JSONDecoder().decode


class Index(NamedTuple):
    """What is known of n rows without reading them; mapped from disk."""

    offset: NDArray[np.int64]
    """[n + 1] where each row begins in the file; the last entry is its size."""
    content: NDArray[np.uint64]
    """[n, 4] sha256 of the row without origin, id and parent, as big-endian words."""
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


_CODES = ("stratum", "label", "kind", "file")
_TYPES = (
    {"offset": Kind("q", "<i8"), "content": Kind("Q", "<u8", held=">u8", width=4)}
    | {name: Kind("Q", "<u8") for name in ("prompt", "text", "group")}
    | {name: Kind("i", "<i4") for name in _CODES}
    | {"line": Kind("q", "<i8")}
)


class Block(NamedTuple):
    """k rows that follow each other in a data set, as they lie on disk."""

    first: int
    """Index of the first row."""
    bounds: NDArray[np.int64]
    """[k + 1] where each row begins in `data`; the last entry is its length."""
    data: bytes

    def lines(self) -> Iterator[bytes]:
        """Each row as one JSON object in UTF-8."""
        bounds = self.bounds.tolist()
        return (self.data[begin:end] for begin, end in pairwise(bounds))

    def line(self, place: int) -> bytes:
        """The row at a place in this block."""
        return self.data[self.bounds[place] : self.bounds[place + 1]]

    def having(self, *words: bytes) -> NDArray[np.int64]:
        """Places in this block, 0..k-1, of the rows that hold any of these words, ascending."""
        found: list[int] = []
        for word in words:
            at = self.data.find(word)
            while at >= 0:
                row = int(np.searchsorted(self.bounds, at, "right")) - 1
                found.append(row)
                at = self.data.find(word, int(self.bounds[row + 1]))
        return np.unique(np.array(found, np.int64))


class Dataset:
    """Rows in the order they were written. A subset shares the file with the whole."""

    def __init__(self, folder: Path, index: Index, names: dict[str, tuple[str, ...]], file: _File) -> None:
        self.folder, self.index = folder, index
        self.strata, self.labels, self.kinds, self.files = (names[key] for key in _CODES)
        self._names, self._file = names, file
        self._begin, self._end = index.offset[:-1], index.offset[1:]
        self._shingles: Shingles | None = None

    @classmethod
    def write(cls, rows: Iterable[Row], folder: Path) -> Self:
        """Spool rows into `folder` as they come. A row without an id gets ``file:line``."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ROWS).open("wb") as file, tempfile.TemporaryFile(dir=folder) as spool:
            writer = _Writer(spool)
            for row in rows:
                file.write(writer.add(row))
            writer.write(folder / INDEX)
        return cls.open(folder)

    @classmethod
    def write_shingled(cls, rows: Iterable[Row | Dataset], folder: Path) -> Self:
        """The same, with what `shingles` tells worked out while the rows pass; many of them may come as a data set."""
        folder.mkdir(parents=True, exist_ok=True)
        with (
            (folder / ROWS).open("wb") as file,
            tempfile.TemporaryFile(dir=folder) as spool,
            tempfile.TemporaryFile(dir=folder) as flat,
            tempfile.TemporaryFile(dir=folder) as ends,
        ):
            gathering = Gathering(flat, ends)
            writer = _Writer(spool, gathering.add)
            for row in rows:
                if isinstance(row, Dataset):
                    gathering.keep(row.shingles())
                    for block in row.blocks():
                        file.write(block.data)
                        writer.keep(row, block.first, block.first + len(block.bounds) - 1)
                else:
                    file.write(writer.add(row))
            writer.write(folder / INDEX)
            written = cls.open(folder)
            written._shingles = Shingles.gathered(gathering, folder)
        return written

    def seal(self) -> None:
        """Write the shingles beside the rows, so that `open_shingled` finds them."""
        self.shingles().write(self.folder / SHINGLES)

    @classmethod
    def open_shingled(cls, folder: Path) -> Self:
        """A sealed data set."""
        dataset = cls.open(folder)
        dataset._shingles = Shingles.open(folder / SHINGLES)
        return dataset

    def revised(self, changes: Iterable[tuple[int, Row | None]], folder: Path) -> tuple[Dataset, Rows]:
        """Write into `folder` these rows but for the changes: (number, the row in its place or None), ascending.

        What stays is copied as it lies there. Also tells [m] which rows the new ones are or stand for.
        """
        folder.mkdir(parents=True, exist_ok=True)
        kept, changed = array("q"), False
        nobody: tuple[int, Row | None] = (len(self), None)
        coming = iter(changes)
        at, row = next(coming, nobody)
        with (folder / ROWS).open("wb") as file, tempfile.TemporaryFile(dir=folder) as spool:
            writer = _Writer(spool)
            for block in self.blocks():
                begin, stop = block.first, block.first + len(block.bounds) - 1
                while begin < stop:
                    end = min(at, stop)
                    file.write(block.data[block.bounds[begin - block.first] : block.bounds[end - block.first]])
                    writer.keep(self, begin, end)
                    kept.extend(range(begin, end))
                    if end < stop:
                        if row is not None:
                            file.write(writer.add(row))
                            kept.append(at)
                            changed = True
                        at, row = next(coming, nobody)
                        end += 1
                    begin = end
            writer.write(folder / INDEX)
        written, rows = Dataset.open(folder), np.frombuffer(kept, np.int64)
        if self._shingles is not None and not changed:
            written._shingles = self._shingles.subset(rows, folder)
        return written, rows

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The data set written to `folder` before."""
        columns, about = read_columns(folder / INDEX)
        names = {key: tuple(value) for key, value in about["names"].items()}
        return cls(folder, Index(**columns), names, _File(folder / ROWS))

    def subset(self, indices: Sequence[int] | NDArray[np.integer[Any]]) -> Dataset:
        """The rows at `indices`, in that order; nothing is copied but their index."""
        chosen = np.asarray(indices, dtype=np.int64)
        index = self.index._replace(**{name: getattr(self.index, name)[chosen] for name in Index._fields[1:]})
        view = Dataset(self.folder, index, self._names, self._file)
        view._begin, view._end = self._begin[chosen], self._end[chosen]
        return view

    def shingles(self, seen: Callable[[int], None] = silent) -> Shingles:
        """The shingle set of what each row asks and answers. `seen` is told how many rows have been read for it."""
        if self._shingles is None:
            self._shingles = Shingles.of(map(similarity_text, self), self.folder, seen=seen)
        elif len(self):
            seen(len(self))
        return self._shingles

    def __len__(self) -> int:
        return len(self._begin)

    def __getitem__(self, i: int) -> Row:
        return row_from_json(_PARSE(self.line(i).decode()))

    def __iter__(self) -> Iterator[Row]:
        return (row_from_json(_PARSE(line.decode())) for block in self.blocks() for line in block.lines())

    def those(self, rows: Rows) -> Iterator[Row]:
        """The rows of these numbers, in that order; no more is held than for a few thousand of them."""
        for begin in range(0, len(rows), HELD):
            yield from self.subset(rows[begin : begin + HELD])

    def line(self, i: int) -> bytes:
        """The row as it lies on disk: one JSON object in UTF-8."""
        i = range(len(self))[i]
        begin = int(self._begin[i])
        return os.pread(self._file.number, int(self._end[i]) - begin, begin)

    def blocks(self) -> Iterator[Block]:
        """All rows in order, many at a time."""
        for first in range(0, len(self), HELD):
            begin, end = self._begin[first : first + HELD], self._end[first : first + HELD]
            gaps = np.flatnonzero(begin[1:] != end[:-1]) + 1
            for start, stop in pairwise((0, *gaps.tolist(), len(begin))):
                at = start
                while at < stop:
                    count = stop - at
                    if end[stop - 1] - begin[at] > BLOCK:
                        count = max(1, int(np.searchsorted(end[at:stop] - begin[at], BLOCK, "right")))
                    bounds = np.append(begin[at : at + count], end[at + count - 1]) - begin[at]
                    yield Block(first + at, bounds, _read(self._file.number, int(begin[at]), int(bounds[-1])))
                    at += count

    def identities(self) -> Iterator[str]:
        """The id of each row."""
        scan = json.JSONDecoder().raw_decode
        for block in self.blocks():
            for line in block.lines():
                identity: str = scan(line.decode(), len(_ID))[0]
                yield identity

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
        content, digest = self.index.content, hashlib.sha256()
        order = by_content(content)
        for begin in range(0, len(order), HELD):
            digest.update(content[order[begin : begin + HELD]].astype(">u8").tobytes())
        return digest.hexdigest()


def by_content(content: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[n] the rows in the order of their content hashes, equal ones as they stand."""
    order = np.argsort(content[:, 0], kind="stable")
    same = np.flatnonzero(content[order[1:], 0] == content[order[:-1], 0])
    if (content[order[same]] == content[order[same + 1]]).all():
        return order
    return np.lexsort((*content.T[::-1],))


def _read(file: int, begin: int, size: int) -> bytes:
    """`size` bytes from `begin`; one call reads 2 GiB at most."""
    data = os.pread(file, size, begin)
    while len(data) < size:
        data += os.pread(file, size - len(data), begin + len(data))
    return data


class _File:
    """An open file that its readers share; closed with the last of them."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self.number)


class _Writer:
    """Turns rows into lines and gathers their index."""

    def __init__(self, spool: BinaryIO, said: Callable[[str], None] | None = None) -> None:
        self._said = said
        """Told what each row asks and answers, in normal form."""
        self._columns = Columns(_TYPES, spool)
        self._columns.held["offset"].append(0)
        self._size = 0
        self._known: dict[str, dict[str, int]] = {name: {} for name in _CODES}
        self._sorted = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
        self._plain = json.JSONEncoder(ensure_ascii=False).encode

    def add(self, row: Row) -> bytes:
        body = row.to_json()
        origin, identity, parent = body.pop("origin"), body.pop("id"), body.pop("parent")
        content = self._sorted(body)
        where, line_number = self._plain(origin["file"]), origin["line"]
        named = self._plain(identity or str(row.origin))
        made = "" if parent is None else f', "parent": {self._plain(parent)}'
        line = f'{{"id": {named}, "origin": {{"file": {where}, "line": {line_number}}}{made}, {content[1:]}\n'.encode()
        self._size += len(line)
        held = self._columns.held
        held["offset"].append(self._size)
        if '"images": [{' in content:
            without_images(body)
            content = self._sorted(body)
        held["content"].frombytes(hashlib.sha256(content.encode()).digest())
        question, prompt = asked(row), row.prompt_text()
        tidy = normal(question)
        held["prompt"].append(fingerprint64(tidy) if tidy else 0)
        whole = tidy if prompt == question else normal(prompt)
        answer = normal(answered(row))
        held["text"].append(fingerprint64(f"{whole}\n{answer}"))
        if self._said is not None:
            self._said(f"{tidy} {answer}" if tidy and answer else tidy or answer)
        held["group"].append(0 if row.group is None else fingerprint64(row.group))
        self._code("stratum", row.stratum)
        self._code("label", row.label if isinstance(row, Example) else None)
        self._code("kind", row.kind)
        self._code("file", row.origin.file)
        held["line"].append(row.origin.line)
        if len(held["line"]) >= HELD:
            self._columns.spool()
        return line

    def keep(self, source: Dataset, begin: int, end: int) -> None:
        """The rows begin..end-1 of another data set, whose lines follow as they lie there."""
        index, held = source.index, self._columns.held
        sizes = source._end[begin:end] - source._begin[begin:end]
        held["offset"].frombytes((self._size + np.cumsum(sizes)).astype(np.int64).tobytes())
        self._size += int(sizes.sum())
        held["content"].frombytes(index.content[begin:end].astype(_TYPES["content"].held or "").tobytes())
        for name in ("prompt", "text", "group", "line"):
            held[name].frombytes(getattr(index, name)[begin:end].tobytes())
        for name in _CODES:
            known, names = self._known[name], source._names[name]
            codes = getattr(index, name)[begin:end].tolist()
            held[name].extend([NONE if code < 0 else known.setdefault(names[code], len(known)) for code in codes])
        if len(held["line"]) >= HELD:
            self._columns.spool()

    def write(self, path: Path) -> None:
        self._columns.write(path, {"names": {name: list(known) for name, known in self._known.items()}})

    def _code(self, name: str, value: str | None) -> None:
        known = self._known[name]
        self._columns.held[name].append(NONE if value is None else known.setdefault(value, len(known)))
