"""From the recipe's weights, curriculum and class weights to what training takes of its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sartor.data.bias.audit import weights
from sartor.data.mixture import Mixture, class_weights, demands
from sartor.data.pipeline import Prepared as Rows
from sartor.errors import DataError, Problem, RecipeError
from sartor.tokens.course import Course
from sartor.tokens.units import Units

if TYPE_CHECKING:
    from sartor.recipe.load import Loaded

COURSE = "course.columns"
"""File beside the training tokens."""
MEASURED = ("loss",)
"""What a curriculum can go by that only the base model can tell; it is measured when training begins."""
REPEATS = 4.0
"""Passes over the same rows up to which repetition is nearly as good as new data (Muennighoff et al. 2023, section 5)."""


def plan(loaded: Loaded, rows: Rows, tokens: Units) -> Course:
    """The course of training. Raises RecipeError R106, and DataError D191 for a column that a curriculum cannot go by."""
    train = loaded.recipe.train
    by = train.curriculum.by
    return Course(
        mixture=_mixture(loaded, rows, tokens),
        difficulty=None if by in ("none", *MEASURED) else _difficulty(by, rows, tokens),
        sorted_epochs=0 if by == "none" else train.curriculum.epochs,
        scale=_scale(loaded, rows, tokens),
    )


def told(course: Course, loaded: Loaded, epochs: float) -> Iterator[Problem]:
    """D192 for each source of a mixture, as a warning where its rows come again very often."""
    if course.mixture is None:
        return
    for entry in course.mixture.json([source.path for source in loaded.recipe.data.sources]):
        passes = entry["passes_an_epoch"] * epochs
        what = (
            f"{entry['share']:.1%} of the training tokens: {entry['tokens_an_epoch']:,} an epoch "
            f"of {entry['tokens']:,}, each row {passes:.2g} times in the run"
        )
        often = entry["passes_an_epoch"] > 1 and passes > REPEATS
        fix = "a smaller weight, more rows or fewer epochs: repeated this often, rows are learnt by heart"
        yield Problem(
            "D192",
            what,
            file=entry["source"],
            fix=fix if often else "nothing needs doing",
            level="warning" if often else "info",
        )


def _mixture(loaded: Loaded, rows: Rows, tokens: Units) -> Mixture | None:
    """None where every row comes once an epoch."""
    data = loaded.recipe.data
    weights = [source.weight for source in data.sources]
    if all(weight is None for weight in weights) and (data.temperature == 1 or len(weights) == 1):
        return None
    source = rows.source_of(tokens.rows)
    held = np.bincount(source, weights=tokens.lengths, minlength=len(weights)).astype(np.int64)
    try:
        demand = demands(held.tolist(), weights, data.temperature)
    except ValueError as fault:
        number = next(number for number, weight in enumerate(weights) if weight is not None)
        key = f"data.sources[{number}].weight"
        raise RecipeError(
            loaded.problem("R106", key, str(fault), fix="smaller weights, or one for each source")
        ) from None
    return Mixture(tokens.lengths, source, demand, loaded.recipe.seed)


def _scale(loaded: Loaded, rows: Rows, tokens: Units) -> NDArray[np.float32] | None:
    """The product of the weights by label and by group; None where all are 1."""
    by_label = _class_scale(loaded, rows, tokens)
    by_group = weights(rows.dataset, tokens.rows, rows.splits, loaded.recipe.data.bias, loaded.root)
    return by_label if by_group is None else by_group if by_label is None else by_label * by_group


def _class_scale(loaded: Loaded, rows: Rows, tokens: Units) -> NDArray[np.float32] | None:
    wanted = loaded.recipe.train.class_weights
    if wanted == "none":
        return None
    names, labels = rows.dataset.labels, rows.dataset.index.label[tokens.rows]
    key = "train.class_weights"
    if not names:
        what = "the rows have no labels to weigh"
        raise RecipeError(
            loaded.problem("R106", key, what, fix="remove it, or name the column:   map: {label: COLUMN}")
        )
    unknown = sorted(set(wanted) - set(names)) if isinstance(wanted, dict) else []
    if unknown:
        what = f"no row has the label {', '.join(map(repr, unknown))}"
        raise RecipeError(loaded.problem("R106", key, what, fix=f"the labels are {', '.join(sorted(names)[:20])}"))
    return class_weights(labels, names, wanted)


def _difficulty(by: str, rows: Rows, tokens: Units) -> NDArray[np.float64]:
    """[units] the numbers to go by. Raises DataError D191."""
    if by == "length":
        return tokens.lengths.astype(np.float64)
    result = np.empty(len(tokens), np.float64)
    for place, index in enumerate(tokens.rows.tolist()):
        row = rows.dataset[index]
        value = row.columns.get(by)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            having = ", ".join(sorted(row.columns)) or "no further columns"
            what = f'train.curriculum goes by the column "{by}", which is no number here: {value!r}'
            fix = f"length, loss, or a column of numbers; this row has {having}"
            raise DataError(Problem("D191", what, file=row.origin.file, line=row.origin.line, fix=fix))
        result[place] = float(value)
    return result


def path_in(folder: Path) -> Path:
    """Where the course lies in a folder of data."""
    return folder / "tokens" / COURSE
