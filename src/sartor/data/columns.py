"""Columns of numbers that grow by rows and are then read through a memory map: what they hold costs no memory.

One file: a line of JSON that says what there is, then each column whole, aligned to 64 bytes.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

HELD = 1 << 15
"""Rows held in memory until they are spooled."""
ALIGNED = 64
COPIED = 1 << 22
"""Bytes copied at a time."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the numbers of a column are."""

    code: str
    """Type code of the `array` that gathers them."""
    dtype: str
    """Their dtype on disk."""
    held: str | None = None
    """Their dtype in the array, where it is another one."""
    width: int = 1
    """Numbers per row."""


class Columns:
    """Gathers columns row by row: `held[name].extend(values)`, then `spool()` once in a while, then `write`.

    Args:
        types: the columns by name.
        spool: an empty file for what is no longer held.
    """

    def __init__(self, types: Mapping[str, Kind], spool: BinaryIO) -> None:
        self._types, self._spool = types, spool
        self.held: dict[str, array[Any]] = {name: array(kind.code) for name, kind in types.items()}
        self._ends: list[list[int]] = []
        """For each piece spooled, where each of its columns ends."""

    def spool(self) -> None:
        """Move what is held to disk."""
        ends = []
        for name, kind in self._types.items():
            self._spool.write(np.frombuffer(self.held[name], kind.held or kind.dtype).astype(kind.dtype).tobytes())
            ends.append(self._spool.tell())
            del self.held[name][:]
        self._ends.append(ends)

    def write(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write everything to `path` with `about`."""
        self.spool()
        self._spool.flush()
        places = self._places()
        sizes = [sum(end - begin for begin, end in pieces) for pieces in places]
        entries = [
            {"name": name, "dtype": kind.dtype, "width": kind.width, "bytes": size}
            for (name, kind), size in zip(self._types.items(), sizes, strict=True)
        ]
        with path.open("wb") as file:
            _write_head(file, {"columns": entries, "about": about})
            for pieces in places:
                file.write(bytes(-file.tell() % ALIGNED))
                for begin, end in pieces:
                    for at in range(begin, end, COPIED):
                        file.write(os.pread(self._spool.fileno(), min(COPIED, end - at), at))

    def _places(self) -> list[list[tuple[int, int]]]:
        """For each column, where its pieces lie in the spool."""
        found: list[list[tuple[int, int]]] = [[] for _ in self._types]
        begin = 0
        for ends in self._ends:
            for column, end in enumerate(ends):
                found[column].append((begin, end))
                begin = end
        return found


def write_columns(path: Path, columns: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write whole columns to `path` with `about`."""
    entries = [
        {"name": name, "dtype": values.dtype.str, "width": 1, "bytes": values.nbytes}
        for name, values in columns.items()
    ]
    with path.open("wb") as file:
        _write_head(file, {"columns": entries, "about": about})
        for values in columns.values():
            file.write(bytes(-file.tell() % ALIGNED))
            values.tofile(file)


def read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The columns of a file, mapped, and what was said about them. Raises ValueError for another kind of file."""
    with path.open("rb") as file:
        head = json.loads(file.readline())
        begin = file.tell()
    columns = {}
    for entry, at in zip(head["columns"], _begins(begin, [entry["bytes"] for entry in head["columns"]]), strict=True):
        dtype, width = np.dtype(entry["dtype"]), entry["width"]
        count = entry["bytes"] // dtype.itemsize
        shape = (count,) if width == 1 else (count // width, width)
        columns[entry["name"]] = (
            np.memmap(path, dtype, "r", at, shape).view(np.ndarray) if count else np.empty(shape, dtype)
        )
    return columns, head["about"]


def _write_head(file: BinaryIO, head: Mapping[str, Any]) -> None:
    file.write(json.dumps(head).encode() + b"\n")


def _begins(begin: int, sizes: Sequence[int]) -> Iterator[int]:
    """Where columns of these sizes begin, aligned, after a head that ends at `begin`."""
    for size in sizes:
        begin += -begin % ALIGNED
        yield begin
        begin += size
