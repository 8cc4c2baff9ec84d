"""Rows to be learnt that stand in a test: equal to, nearly equal to, or holding an item of the files of `data.against`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.groups import Rows
from sartor.data.overlap import Grams
from sartor.data.questions import questions
from sartor.data.reading import expand
from sartor.data.residual import Residual, likeness
from sartor.data.rows import Origin, Row, Text
from sartor.data.similarity import Shingles, across
from sartor.data.wording import answered, asked, fingerprint64, normal
from sartor.errors import DataError, Problem

EXAMPLES = 20
SHOWN = 600
"""Characters shown of a text."""
KINDS = ("same", "near", "n-gram")
TOLD = {"same": "asks the same as", "near": "nearly the same as", "n-gram": "holds the words of"}


@dataclass(frozen=True, slots=True)
class Item:
    """What a benchmark asks, and where."""

    origin: Origin
    text: str


@dataclass(frozen=True, slots=True)
class Match:
    """A row and the item it gives away."""

    row: int
    item: int
    kind: str
    """same, near or n-gram: the strongest that holds."""
    share: float
    """Jaccard similarity, or part of the item's n-grams; 1 for equal texts."""


@dataclass(frozen=True, slots=True)
class Contamination:
    """What rows give away of the benchmarks."""

    items: tuple[Item, ...]
    matches: tuple[Match, ...]
    """By row, at most one each."""
    n: int
    """Words of an n-gram."""
    residual: Residual | None
    """How alike the items are to the rows that do not match."""
    examples: tuple[Mapping[str, Any], ...]
    """The first matches with both texts."""

    def json(self) -> dict[str, Any]:
        """``{"files": {path: items}, "n", "rows": {same, near, n-gram}, "items", "residual", "examples": [...]}``."""
        found = Counter(match.kind for match in self.matches)
        return {
            "files": dict(Counter(item.origin.file for item in self.items)),
            "n": self.n,
            "rows": {kind: found[kind] for kind in KINDS},
            "items": len({match.item for match in self.matches}),
            "residual": self.residual.json() if self.residual else None,
            "examples": list(self.examples),
        }


def items_of(paths: Sequence[str], root: Path, findings: Findings) -> Iterator[Item]:
    """What each record of the files asks. What cannot be read is added to the findings."""
    for path in paths:
        try:
            for file in expand(path, root):
                for found in questions(file, label=path):
                    if isinstance(found, Problem):
                        findings.add(found)
                    else:
                        yield Item(found.row.origin, asked(found.row))
        except DataError as fault:
            for problem in fault.problems:
                findings.add(problem)


def compare(dataset: Dataset, rows: Rows, items: Sequence[Item], near_duplicates: float) -> Contamination:
    """Look for `items` in `rows`. `near_duplicates` is the Jaccard similarity from which a prompt counts as the same."""
    best: dict[int, Match] = {}
    prints = {fingerprint64(normal(item.text)): number for number, item in reversed(list(enumerate(items)))}
    for row in rows:
        number = prints.get(int(dataset.index.prompt[row]))
        if number is not None:
            best[int(row)] = Match(int(row), number, "same", 1.0)
    count, view = len(items), dataset.subset(rows)
    shingles = Shingles.of(chain((item.text for item in items), map(asked, view)), dataset.folder)
    ours, theirs = np.arange(count, dtype=np.int64), np.arange(count, count + len(rows), dtype=np.int64)
    if count and len(rows):
        near = across(shingles, ours, theirs, near_duplicates)
        for item, place, share in zip(near.first, near.second - count, near.similarity, strict=True):
            row = int(rows[place])
            best.setdefault(row, Match(row, int(item), "near", float(share)))
    grams = Grams([item.text for item in items])
    held = grams.held_by(map(whole, view))
    for place, item, share in zip(held.text, held.item, held.share, strict=True):
        row = int(rows[place])
        best.setdefault(row, Match(row, int(item), "n-gram", float(share)))
    clean = theirs[~np.isin(rows, np.array(sorted(best), np.int64))]
    matches = tuple(best[row] for row in sorted(best))
    examples = tuple(_example(dataset, match, items[match.item]) for match in matches[:EXAMPLES])
    return Contamination(tuple(items), matches, grams.n, likeness(shingles, ours, clean), examples)


def _example(dataset: Dataset, match: Match, item: Item) -> dict[str, Any]:
    """Both texts, each in part."""
    return {
        "what": TOLD[match.kind],
        "share": round(match.share, 4),
        "row": str(dataset.origin(match.row)),
        "item": str(item.origin),
        "row_text": _around(whole(dataset[match.row]), item.text),
        "item_text": item.text[:SHOWN],
    }


def _around(text: str, item: str) -> str:
    """Where in a long text the item begins, as far as its first words are found."""
    words = item.split()
    at = text.casefold().find(" ".join(words[:3]).casefold()) if words else 0
    begin = max(0, at - SHOWN // 4)
    return ("… " if begin else "") + text[begin : begin + SHOWN]


def whole(row: Row) -> str:
    """Everything that a row says."""
    return row.text if isinstance(row, Text) else f"{row.prompt_text()}\n{answered(row)}"


def problems(dataset: Dataset, found: Contamination) -> Iterator[Problem]:
    """D153, an error for each file of rows and each kind of match, at its first row."""
    where: dict[tuple[int, str], list[Match]] = {}
    for match in found.matches:
        where.setdefault((int(dataset.index.file[match.row]), match.kind), []).append(match)
    for (_, kind), matches in where.items():
        first = matches[0]
        origin, item = dataset.origin(first.row), found.items[first.item]
        detail = {"same": "", "near": f" (likeness {first.share:.2f})", "n-gram": f" ({_runs(found.n, first.share)})"}
        many = f"; {len(matches):,} rows" if len(matches) > 1 else ""
        yield Problem(
            "D153",
            f"{TOLD[kind]} {item.origin}, which is to be measured on{detail[kind]}{many}",
            file=origin.file,
            line=origin.line,
            fix="data.on_leak: drop leaves these rows out of training; or take the file out of data.against",
            rows=tuple(dataset.origin(match.row).line for match in matches[1:1000]),
        )


def reason(found: Contamination, match: Match) -> str:
    """Why a row was dropped."""
    return f"{TOLD[match.kind]} {found.items[match.item].origin}"


def forgiven(problem: Problem) -> Problem:
    """The finding where the rows were left out."""
    fix = "nothing needs doing; dropped.jsonl names each row with its twin"
    return replace(problem, level="info", what=f"{problem.what}; left out of training", fix=fix)


def _runs(n: int, share: float) -> str:
    if share > 0.995:
        return "word for word"
    return f"{100 * share:.0f} % of its runs of {n} words"
