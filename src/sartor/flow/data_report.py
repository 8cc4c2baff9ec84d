"""Gathers what the data report shows: findings, distributions, copies, doubtful labels, leaks, and rows with their mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.dataset import Dataset
from sartor.data.language import NAMES
from sartor.data.page import page
from sartor.data.profile import Profile, answer_of, profile, short
from sartor.data.rows import Example, Row, Text
from sartor.data.sampling import sample
from sartor.data.split import PARTS, Splits
from sartor.errors import Problem
from sartor.tokens.inputs import Inputs
from sartor.tokens.render import Renderer

if TYPE_CHECKING:
    from sartor.flow.prepare import Prepared

SAMPLED = 80
"""Rows shown beside those that findings name."""
NAMED = 6
"""Rows shown of each finding."""
MOST = 400
"""Rows shown in all."""
WIDTH = 1500
"""Characters shown of a text."""
SIDE = 600
"""Characters shown of each side of a leak."""


@dataclass(frozen=True, slots=True)
class Part:
    """One audited data set of a report."""

    findings: Sequence[Problem]
    files: Sequence[dict[str, Any]]
    profile: Profile | None
    likeness: str | None
    leaks: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    all_rows: int


def part(
    dataset: Dataset,
    splits: Splits | None,
    findings: Sequence[Problem],
    files: Sequence[dict[str, Any]],
    made: Profile | None,
    renderer: Renderer | Inputs | None,
) -> Part:
    """What a report shows of one data set, copied out of it; with a renderer, rows as tokens with their loss weights."""
    chosen = _chosen(dataset, findings)
    places = splits.part if splits is not None and splits.divided else None
    rows = [_row(dataset[row], row, None if places is None else int(places[row]), renderer) for row in chosen]
    return Part(
        findings=findings,
        files=files,
        profile=made,
        likeness=_likeness(splits),
        leaks=list(_leaks(dataset, splits)),
        rows=rows,
        all_rows=len(dataset),
    )


def of_run(prepared: Prepared) -> str:
    """The page of the data of a run, rows as the model sees them, and how long they are in tokens."""
    rows = prepared.rows
    made = profile(rows.dataset, rows.splits, originals=rows.originals)
    tokens = [prepared.tokens[name].lengths for name in ("train", "validation")]
    made = made.with_lengths("tokens", np.concatenate(tokens).astype(np.int64), "tokens")
    files = rows.findings.json()["files"]
    return report(
        [part(rows.dataset, rows.splits, rows.findings.problems, files, made, prepared.inputs or prepared.renderer)]
    )


def report(parts: Sequence[Part]) -> str:
    """The page of one or more data sets."""
    shown = {row["where"] for each in parts for row in each.rows}
    body = {
        "files": [file for each in parts for file in each.files],
        "findings": [_finding(problem, shown) for each in parts for problem in _by_level(each.findings)],
        "profiles": [each.profile.json() for each in parts if each.profile is not None],
        "likeness": [each.likeness for each in parts if each.likeness],
        "leaks": [leak for each in parts for leak in each.leaks],
        "rows": [row for each in parts for row in each.rows],
        "all_rows": sum(each.all_rows for each in parts),
        "languages": NAMES,
    }
    return page(body)


def _by_level(findings: Iterable[Problem]) -> list[Problem]:
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda problem: order[problem.level])


def _finding(problem: Problem, shown: set[str]) -> dict[str, Any]:
    lines = [line for line in (problem.line, *problem.rows) if line is not None]
    held = [where for line in lines if (where := f"{problem.file}:{line}") in shown]
    return {**problem.json(), "held": held[:MOST]} if held else problem.json()


def _chosen(dataset: Dataset, findings: Sequence[Problem]) -> list[int]:
    """Rows that findings name, and a sample."""
    index = dataset.index
    known = {name: code for code, name in enumerate(dataset.files)}
    rows: set[int] = set()
    for problem in findings:
        if problem.file in known and problem.line is not None and len(rows) < MOST - SAMPLED:
            lines = [problem.line, *problem.rows][:NAMED]
            there = np.flatnonzero((index.file == known[problem.file]) & np.isin(index.line, lines))
            rows.update(there[:NAMED].tolist())
    return sorted(rows | set(sample(dataset, SAMPLED)))


def _row(row: Row, number: int, place: int | None, renderer: Renderer | Inputs | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "where": str(row.origin),
        "part": None if place is None else dict(enumerate(PARTS)).get(place, "left out"),
        "label": row.label if isinstance(row, Example) else None,
        "prompt": "" if isinstance(row, Text) else _cut(row.prompt_text()),
        "answer": _cut(answer_of(row)),
    }
    if renderer is None:
        return told
    from sartor.flow.data_show import pieces, visible

    (result,) = renderer.render_many([(number, row)])
    if isinstance(result, Problem):
        return {**told, "problem": str(result)}
    shown: list[tuple[str, float, bool]] = []
    for rendered in result.rendered:
        shown += [(_cut(visible(piece.text)), piece.weight, piece.control) for piece in pieces(renderer, rendered)]
    counts = {
        "tokens": sum(len(rendered) for rendered in result.rendered),
        "learnt": sum(rendered.supervised for rendered in result.rendered),
    }
    return {**told, **counts, "pieces": shown}


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[:WIDTH]} … ({len(text) - WIDTH:,} more characters)"


def _likeness(splits: Splits | None) -> str | None:
    if splits is None or not splits.divided:
        return None
    return f"{str(splits.residual or 'nothing to compare').capitalize()}."


def _leaks(dataset: Dataset, splits: Splits | None) -> Iterable[dict[str, Any]]:
    """Pairs that are worth a look: rows that match a benchmark, and the most alike pair across the parts."""
    if splits is None:
        return
    if splits.against is not None:
        for match in splits.against["examples"]:
            sides = [
                {"where": match[where], "text": match[text]}
                for where, text in (("row", "row_text"), ("item", "item_text"))
            ]
            yield {"what": f"{match['what']} ({100 * match['share']:.0f} %)", "sides": sides}
    if splits.residual is not None and splits.residual.closest is not None:
        held, other = splits.residual.closest
        sides = [{"where": str(dataset.origin(row)), "text": _side(dataset[row])} for row in (held, other)]
        yield {"what": f"The held-out row and the training row most alike ({splits.residual.max:.2f})", "sides": sides}


def _side(row: Row) -> str:
    return short(row.prompt_text() if isinstance(row, Text) else f"{row.prompt_text()} → {row.answer_text()}", SIDE)
