"""Turns a user's file into rows: picks the source by the file, the format by its records, and names each bad row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sartor.data.findings import Findings
from sartor.data.rows import Row


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file turned out to be."""

    source: str
    format: str
    sample: Row
    """The first row, converted."""
    columns: tuple[str, ...]
    """All columns of the records looked at."""
    unused: tuple[str, ...]
    """Those that no field of the format uses; they stay in `Row.columns`."""


def read(
    path: Path,
    *,
    format: str = "auto",
    map: Mapping[str, str] = {},
    group: str | None = None,
    id: str | None = None,
    max_line_bytes: int = 4 << 20,
    findings: Findings,
    label: str | None = None,
) -> Iterator[Row]:
    """Streams the rows of a file."""
    raise NotImplementedError


def recognise(
    path: Path,
    *,
    format: str = "auto",
    map: Mapping[str, str] = {},
    max_line_bytes: int = 4 << 20,
    label: str | None = None,
) -> Recognised:
    """What a file is. Raises DataError."""
    raise NotImplementedError


def expand(path: str, root: Path) -> list[Path]:
    """The files a path of the recipe means: a file, a folder, a glob, or builtin:NAME. Raises DataError D113."""
    raise NotImplementedError
