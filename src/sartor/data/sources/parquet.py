"""Parquet, through polars; this is the only file that imports it.

    question: String | answer: String | customer: Int64

Rows go by their number, batch by batch. Dates and decimals become text, not-a-number becomes null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sartor.data.opening import PACKED, unreadable
from sartor.data.sources._record import Record
from sartor.errors import DataError, Problem
from sartor.options import NoOptions as Options

__all__ = ["EXTENSIONS", "Options", "records"]

EXTENSIONS: tuple[str, ...] = (".parquet", ".pq")
_BATCH = 2048


def records(path: Path, *, max_line_bytes: int) -> Iterator[Record | Problem]:
    """One record per row; `line` is the row's number from 1. Raises DataError where the file or polars is missing."""
    try:
        import polars as pl
    except ImportError as missing:
        what = "reading Parquet needs the library polars"
        raise DataError(Problem("D119", what, fix='pip install "sartor[tables]"')) from missing
    if path.suffix.lower() in PACKED:
        raise DataError(Problem("D119", "Parquet packed once more is not read", fix="unpack it first"))
    try:
        path.open("rb").close()
    except (OSError, ValueError) as fault:
        raise DataError(unreadable(fault)) from fault
    start = 0
    try:
        frame = pl.scan_parquet(path, glob=False)
        while len(batch := frame.slice(start, _BATCH).collect()):
            for number, row in enumerate(batch.iter_rows(named=True), start + 1):
                yield Record({name: _plain(value) for name, value in row.items()}, number)
            start += len(batch)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as fault:
        what = f"the Parquet file is damaged ({str(fault).splitlines()[0]})"
        raise DataError(Problem("D101", what, line=start + 1, fix="write or copy the file again")) from fault


def write(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write the rows, whose keys may differ, and return how many there are. Raises DataError D119 without polars, or where
    the values of a column are of different kinds."""
    try:
        import polars as pl
    except ImportError as missing:
        what = "writing Parquet needs the library polars"
        raise DataError(Problem("D119", what, fix='pip install "sartor[tables]"')) from missing
    held = list(rows)
    names = list(dict.fromkeys(name for row in held for name in row))
    try:
        columns = [pl.Series(name, [row.get(name) for row in held], strict=True) for name in names]
    except (pl.exceptions.PolarsError, TypeError) as fault:
        what = f"a column holds values of different kinds ({str(fault).splitlines()[0]})"
        raise DataError(Problem("D119", what, file=str(path), fix="--as jsonl")) from fault
    pl.DataFrame(columns).write_parquet(path)
    return len(held)


def _plain(value: Any) -> Any:
    """As JSON has it: dates and decimals as text, not-a-number as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.hex()
    return str(value)
