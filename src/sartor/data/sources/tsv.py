"""TSV with a header line: tabs between fields.

    text<TAB>label
    never arrived<TAB>delivery

Otherwise the rules of CSV, as spreadsheets and data frames write it: a field that begins with a quote ends with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sartor.data.sources._record import Record
from sartor.data.sources._table import table
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["EXTENSIONS", "Options", "records"]

EXTENSIONS: tuple[str, ...] = (".tsv", ".tab")


def records(path: Path, *, max_line_bytes: int) -> Iterator[Record | Problem]:
    """One record or problem per row. Raises DataError for faults of the whole file."""
    return table(path, max_line_bytes=max_line_bytes, delimiter=lambda header: "\t")
