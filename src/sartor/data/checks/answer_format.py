"""Where nearly all answers have one form, those that differ teach the model to fail now and then.

train.jsonl:31: warning D165: this answer is no JSON object; 97.1 % of 4,812 are (140 rows).
train.jsonl:8: warning D166: the key "queue" is missing in this answer; 99.2 % of 4,672 have it (37 rows).
train.jsonl:9: warning D167: dates are written 31.12.2026 here, 2026-12-31 in 96 % of 700 (28 rows).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sartor.data.checks._sightings import Sightings, percent
from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Prompt, Text
from sartor.data.split import Splits
from sartor.data.watching import Look, Watcher
from sartor.errors import Problem
from sartor.options import NoOptions as Options

__all__ = ["Options", "watch"]

NEARLY_ALL = 0.9
ENOUGH = 20
KEYS = 500
"""Different keys that are followed; further ones are data, not a schema."""
KEPT = 20_000
"""Rows kept for each form, so that memory stays bounded; all are counted."""
NAMES: dict[type, str] = {
    dict: "object",
    list: "list",
    str: "text",
    int: "number",
    float: "number",
    bool: "truth value",
}
DIGIT = re.compile(r"\d")
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
DATES = {
    "2026-12-31": re.compile(r"(?<![\d-])\d{4}-\d\d-\d\d(?!-?\d)"),
    "31.12.2026": re.compile(r"(?<![\d.])\d{1,2}\.\d{1,2}\.\d{4}(?!\.?\d)"),
    "12/31/2026": re.compile(r"(?<![\d/])\d{1,2}/\d{1,2}/\d{4}(?!/?\d)"),
    "2026/12/31": re.compile(r"(?<![\d/])\d{4}/\d{1,2}/\d{1,2}(?!/?\d)"),
    "December 31, 2026": re.compile(rf"\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?, \d{{4}}\b"),
    "31 December 2026": re.compile(rf"\b\d{{1,2}}(?:st|nd|rd|th)? {_MONTH},? \d{{4}}\b"),
}


@dataclass(slots=True)
class _Forms:
    """How many rows have each form, and which."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rows: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, form: str, row: int) -> None:
        self.counts[form] += 1
        if len(self.rows[form]) < KEPT:
            self.rows[form].append(row)

    @property
    def whole(self) -> int:
        return sum(self.counts.values())

    def usual(self) -> str | None:
        """The form of nearly all rows; None where there is none, or no other."""
        if self.whole < ENOUGH or len(self.counts) < 2:
            return None
        form = max(self.counts, key=lambda each: self.counts[each])
        return form if self.counts[form] >= NEARLY_ALL * self.whole else None


def watch(dataset: Dataset, splits: Splits) -> Watcher:
    """D165, D166 and D167, one for each file and deviation. Classes and raw texts have no form to keep."""
    return _Watcher(dataset)


class _Watcher:
    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._shapes, self._dates = _Forms(), _Forms()
        self._keys: dict[str, _Forms] = {}
        self._objects = 0

    def see(self, at: int, look: Look) -> None:
        row = look.row
        if isinstance(row, Text | Prompt) or (isinstance(row, Example) and row.label is not None):
            return
        answer = look.answer.strip()
        value = _parsed(answer)
        self._shapes.add("plain text" if value is None else f"JSON {NAMES[type(value)]}", at)
        if isinstance(value, dict):
            self._objects += 1
            for key, entry in value.items():
                if key in self._keys or len(self._keys) < KEYS:
                    self._keys.setdefault(key, _Forms()).add(NAMES.get(type(entry), "null"), at)
        if DIGIT.search(answer):
            for form, pattern in DATES.items():
                if pattern.search(answer):
                    self._dates.add(form, at)

    def problems(self) -> Iterator[Problem]:
        yield from _shapes(self._dataset, self._shapes)
        yield from _keys(self._dataset, self._keys, self._shapes.rows.get("JSON object", []), self._objects)
        yield from _dates(self._dataset, self._dates)


def _parsed(answer: str) -> Any:
    """The JSON object or list that an answer is; None for everything else."""
    if answer[:1] not in ("{", "["):
        return None
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _shapes(dataset: Dataset, shapes: _Forms) -> Iterator[Problem]:
    def told(form: str, usual: str, share: str) -> str:
        return f"this answer is {_a(form)}, not {_a(usual)}; {share} are"

    yield from _unusual(dataset, shapes, told).problems(
        "D165", "warning", "bring these answers into the same form, or leave them out"
    )


def _keys(dataset: Dataset, keys: dict[str, _Forms], rows: list[int], objects: int) -> Iterator[Problem]:
    seen = Sightings(dataset)
    for key, forms in keys.items():
        if objects >= ENOUGH and NEARLY_ALL * objects <= forms.whole < objects:
            having = {row for mine in forms.rows.values() for row in mine}
            for row in rows:
                if row not in having:
                    share = percent(forms.whole, objects)
                    seen.add(row, f'the key "{key}" is missing in this answer; {share} of {objects:,} have it')
        usual = forms.usual()
        if usual is None:
            continue
        for form, mine in forms.rows.items():
            if form not in (usual, "null"):
                share = percent(forms.counts[usual], forms.whole)
                for row in mine:
                    seen.add(row, f'the key "{key}" holds {_a(form)} here, {_a(usual)} in {share} of {forms.whole:,}')
    yield from seen.problems("D166", "warning", "write every answer with the same keys and kinds of values")


def _dates(dataset: Dataset, dates: _Forms) -> Iterator[Problem]:
    def told(form: str, usual: str, share: str) -> str:
        return f"dates are written like {form} here, {usual} in {share}"

    yield from _unusual(dataset, dates, told).problems("D167", "warning", "write all dates in one form")


def _unusual(dataset: Dataset, forms: _Forms, told: Callable[[str, str, str], str]) -> Sightings:
    """The rows in another form than the usual one, if there is one; `told` says it of (form, usual form, share of it)."""
    seen, usual = Sightings(dataset), forms.usual()
    if usual is not None:
        share = f"{percent(forms.counts[usual], forms.whole)} of {forms.whole:,}"
        for form, rows in forms.rows.items():
            if form != usual:
                for row in rows:
                    seen.add(row, told(form, usual, share))
    return seen


def _a(thing: str) -> str:
    if thing in ("plain text", "text", "null"):
        return thing
    return f"an {thing}" if thing[0] in "aeio" else f"a {thing}"
