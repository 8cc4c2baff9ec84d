"""Decides which format the records of a file have, and gives their columns the names the format uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from sartor import registry
from sartor.data.formats._columns import suggest
from sartor.data.formats._fields import BadRow, nearest
from sartor.data.rows import Origin, Row
from sartor.data.sources._record import Record, shorten
from sartor.errors import DataError, Problem

_SHOWN = 12
"""Columns named in a message."""


class Shape:
    """One format under the user's `map`, our field -> the file's column."""

    def __init__(self, name: str, columns: Mapping[str, str], *, automatic: bool) -> None:
        self.name, self.columns, self._automatic = name, columns, automatic
        self.format: ModuleType = registry.component("format", name)
        self._fields = frozenset(self.format.FIELDS)
        self.taken = frozenset(columns.get(field, field) for field in self.format.FIELDS)
        """The file's columns that become fields."""

    def row(self, value: Mapping[str, Any], origin: Origin) -> Row:
        """The record as a row. Raises BadRow, with D110 where the record is of another form."""
        seen = renamed(value, self.columns)
        other = self._other(seen) if self._automatic and not self.format.detects(seen) else None
        if other is not None and not self._lacks(seen, other):
            raise self._strange(other)
        row: Row = self.format.parse(seen, origin)
        if other is not None:
            raise self._strange(other)
        return row

    def _strange(self, other: str) -> BadRow:
        what = f"this record is of form {other}; most of the file is {self.name}"
        return BadRow("D110", what, "split the file into one per form, or   data: {on_bad: skip}")

    def _other(self, seen: Mapping[str, Any]) -> str | None:
        return next((name for name in registry.names("format") if _module(name).detects(seen)), None)

    def _lacks(self, seen: Mapping[str, Any], other: str) -> bool:
        """Whether a record is of another form only by columns that this one has as well: it may merely lack a field."""
        return seen.keys() & frozenset(_module(other).FIELDS) <= self._fields

    def said(self, what: str) -> str:
        """A message about a field, naming the file's column instead."""
        for field, column in self.columns.items():
            if what.startswith(f'"{field}"'):
                return f'"{column}"' + what.removeprefix(f'"{field}"')
        return what


def shape(format: str, columns: Mapping[str, str], records: Sequence[Record], *, table: bool) -> Shape:
    """The format that the records have. Raises DataError D112 where none or several fit, or `columns` cannot be right.

    `table` says that the names of the columns were read from the first line of the file.
    """
    known = [format] if format != "auto" else registry.names("format")
    fields = {name: frozenset(_module(name).FIELDS) for name in known}
    fitting = [name for name in known if columns.keys() <= fields[name]]
    if not fitting:
        raise DataError(_no_fields(format, columns, sorted(set().union(*fields.values()))))
    met = list(dict.fromkeys(column for record in records for column in record.value))
    for column in columns.values():
        if column not in met:
            near = nearest(column, met)
            hint = f'; did you mean "{near}"?' if near else f"; it has {_listed(met)}"
            raise DataError(
                Problem(
                    "D112", f'map names the column "{column}", which the file does not have{hint}', line=records[0].line
                )
            )
    if format != "auto":
        return Shape(format, columns, automatic=False)
    seen = [renamed(record.value, columns) for record in records]
    votes = [tuple(name for name in fitting if _module(name).detects(value)) for value in seen]
    both = next((vote for vote in votes if len(vote) > 1), None)
    if both:
        what = f"columns {_listed(met)} fit {' and '.join(both)}"
        raise DataError(
            Problem("D112", what, line=records[0].line, fix=f"format: {both[-1]}   (or {', '.join(both[:-1])})")
        )
    counted = Counter(name for vote in votes for name in vote)
    if not counted:
        raise DataError(_unknown(records, met, table=table))
    return Shape(counted.most_common(1)[0][0], columns, automatic=True)


def renamed(value: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """The record with the columns of the map under our names; a column whose name another one took is left out."""
    if not columns:
        return value
    away = {*columns, *columns.values()}
    kept = {name: entry for name, entry in value.items() if name not in away}
    return kept | {field: value[column] for field, column in columns.items() if column in value}


def _module(name: str) -> ModuleType:
    return registry.component("format", name)


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(shorten(column, width=40) for column in columns[:_SHOWN])
    return shown + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")


def _no_fields(format: str, columns: Mapping[str, str], fields: Sequence[str]) -> Problem:
    strange = [field for field in columns if field not in fields]
    if not strange:
        return Problem(
            "D112", f"no format has the fields {', '.join(columns)} together", fix="see docs/reference/data-formats.md"
        )
    near = nearest(strange[0], fields)
    hint = f'; did you mean "{near}"?' if near else ""
    of = "any format" if format == "auto" else f"the format {format}"
    return Problem(
        "D112",
        f'map: "{strange[0]}" is no field of {of}{hint}',
        fix="map is {our field: your column}; fields are " + ", ".join(fields),
    )


def _unknown(records: Sequence[Record], met: Sequence[str], *, table: bool) -> Problem:
    if table and any(len(name) > 40 or len(name.split()) > 4 or name.replace(".", "").isdigit() for name in met):
        fix = "write a first line with the names of the columns, such as prompt,completion"
        return Problem("D112", f"the first line is no header: {_listed(met)}", line=1, fix=fix)
    if not met:
        return Problem("D112", "the records are empty objects", line=records[0].line, fix="give them columns")
    likely = suggest(records[0].value) or {"prompt": "COLUMN", "completion": "COLUMN"}
    pairs = [f"{field}: {_quoted(column)}" for field, column in likely.items() if field != column]
    are = "columns {} are" if len(met) > 1 else "the column {} is"
    return Problem(
        "D112",
        f"{are.format(_listed(met))} of no known form",
        line=records[0].line,
        fix="map: {" + ", ".join(pairs) + "}, or format: NAME",
    )


def _quoted(column: str) -> str:
    return column if column.replace("_", "a").replace("-", "a").isalnum() else '"' + column.replace('"', '\\"') + '"'
