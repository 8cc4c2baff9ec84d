"""Which answers are judged: those that models gave to the test rows, of which some may be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sartor.data.rows import COMPARED, Row, Text
from sartor.errors import Problem, RecipeError
from sartor.evaluate.judges._gold import Row as Named
from sartor.evaluate.judges._gold import names
from sartor.evaluate.suites import Ground
from sartor.protocols import Outcome

BLOCK = 32
"""Rows asked about together; what was answered is kept after each."""


def drawn(ground: Ground, most: int, judged: frozenset[Named]) -> list[int]:
    """Places among the test rows, in order: those that people judged, and a fixed sample of the others, `most` in all.

    Raises RecipeError E173 for rows that nobody answers.
    """
    rows = [ground.rows[index] for index in ground.test]
    strange = next((row for row in rows if isinstance(row, Text) or row.kind in COMPARED), None)
    if strange is not None:
        what = f"judges read answers to questions, and rows of kind {strange.kind} have none that a model writes"
        raise RecipeError(Problem("E173", what, fix="leave evaluate.judge out, or use rows with prompts"))
    order = np.random.default_rng([ground.seed, 7]).permutation(len(rows)).tolist()
    first = [place for place in order if _judged(rows[place], judged)]
    chosen = dict.fromkeys([*first, *order])
    return sorted(list(chosen)[:most])


def _judged(row: Row, judged: frozenset[Named]) -> bool:
    return any(name in judged for name in names(row.id or str(row.origin), row.columns, row.prompt_text()))


def bare(outcome: Outcome, columns: dict[str, object]) -> Outcome:
    """The question and its answer, with what a judge says of it and the column `id`, by which people may call it."""
    named = {"id": outcome.columns["id"]} if "id" in outcome.columns else {}
    return replace(
        Outcome(outcome.id, outcome.prompt, outcome.reference, outcome.prediction, stopped=outcome.stopped),
        columns=named | columns,
    )


def blocks(units: Sequence[int]) -> list[Sequence[int]]:
    """Some at a time."""
    return [units[start : start + BLOCK] for start in range(0, len(units), BLOCK)]
