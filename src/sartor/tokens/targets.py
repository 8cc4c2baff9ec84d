"""What a head learns of a row, as numbers: the place of its label, one or zero for each label, a scaled number, tags.

Names and scale come from the training rows alone, names in the order of the alphabet. A label or tag that no training row
has is a problem with file and line, wherever it stands: no head could ever give it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from sartor.data.rows import Example, Labelled, Row, Scored, Tagged
from sartor.errors import DataError, Problem
from sartor.tokens.layout import Fault

Kind = Literal["classes", "labels", "number", "tags"]


@dataclass(frozen=True, slots=True)
class Targets:
    """How rows become labels of `Rendered`, and back."""

    kind: Kind
    names: tuple[str, ...] = ()
    """Of the classes, labels or tags, sorted."""
    center: float = 0.0
    """Mean of the training rows' numbers."""
    spread: float = 1.0
    """Their standard deviation."""

    @classmethod
    def learn(cls, kind: Kind, rows: Iterable[Row]) -> Targets:
        """Names or scale of the training rows.

        Raises:
            DataError: T230 a row without what is to be learnt; T231 all rows say the same.
        """
        said: list[tuple[str, ...] | float] = []
        file = ""
        for row in rows:
            file = row.origin.file
            try:
                said.append(_said(kind, row))
            except Fault as fault:
                raise DataError(
                    Problem(fault.code, fault.what, file=file, line=row.origin.line, fix=fault.fix)
                ) from fault
        if kind == "number":
            numbers = np.array(said, np.float64)
            center, spread = float(numbers.mean()), float(numbers.std())
            if spread <= 1e-12 * max(1.0, abs(center)):
                raise DataError(_same(f"the number {center:g}", file))
            return cls(kind, center=center, spread=spread)
        names = tuple(sorted({name for one in said if isinstance(one, tuple) for name in one}))
        if len(names) < (1 if kind == "labels" else 2):
            raise DataError(_same(f'"{names[0]}"' if names else "no label", file))
        return cls(kind, names)

    def of(self, row: Row) -> np.ndarray:
        """float32 [K]. classes: the place of its label; labels: 0 or 1 for each; number: (number - center) / spread; tags: the
        place of each word's tag.

        Raises:
            Fault: T230, as `learn`, or a label that no training row has.
        """
        said = _said(self.kind, row)
        if not isinstance(said, tuple):
            return np.array([(said - self.center) / self.spread], np.float32)
        places = {name: place for place, name in enumerate(self.names)}
        missing = next((name for name in said if name not in places), None)
        if missing is not None:
            what = f'no training row has the {"tag" if self.kind == "tags" else "label"} "{missing}", so it cannot be learnt'
            fix = "give at least one training row with it, join it with another one, or leave the row out"
            raise Fault("T230", what, fix=fix)
        if self.kind == "labels":
            found = np.zeros(len(self.names), np.float32)
            found[[places[name] for name in said]] = 1
            return found
        return np.array([places[name] for name in said], np.float32)

    def json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Targets:
        """The inverse of `json`."""
        return cls(**{**body, "names": tuple(body["names"])})

    @property
    def fingerprint(self) -> str:
        """Equal for equal targets."""
        return json.dumps(self.json(), sort_keys=True)


def _said(kind: Kind, row: Row) -> tuple[str, ...] | float:
    """What the row says: its label alone, all its labels, its number, its tags."""
    match row:
        case Scored() if kind == "number":
            if math.isfinite(row.score):
                return row.score
        case Labelled() if kind == "labels":
            return row.labels
        case Tagged() if kind == "tags":
            return row.tags
        case Example() if kind == "classes" and row.label is not None:
            return (row.label,)
    wanted = {"classes": "label", "labels": "list of labels", "number": "number", "tags": "list of tags"}[kind]
    raise Fault("T230", f"the row has no {wanted} to learn", fix="see docs/reference/data-formats.md")


def _same(what: str, file: str) -> Problem:
    told = f"every training row has {what}, so there is nothing to learn"
    return Problem("T231", told, file=file or None, fix="give rows that differ in it")
