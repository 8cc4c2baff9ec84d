"""The slices of a run's test rows: which metrics are told of them, and what they are made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sartor.evaluate.slices import Slices, cut

if TYPE_CHECKING:
    from sartor.protocols import Metric, Outcome
    from sartor.recipe.schema import Recipe


def slices_of(
    recipe: Recipe, metrics: Sequence[Metric], outcomes: Mapping[str, Sequence[Outcome]], called: Mapping[str, str]
) -> Slices | None:
    """The main metric, and those that gates ask of slices, on every slice; None where the recipe has none."""
    evaluate = recipe.evaluate
    if not evaluate.slices:
        return None
    gated = {gate.metric for gate in recipe.goal.success if gate.slice is not None}
    chosen = [metric for place, metric in enumerate(metrics) if place == 0 or metric.name in gated]
    return cut(
        outcomes,
        chosen,
        evaluate.slices,
        confidence=evaluate.confidence,
        resamples=evaluate.resamples,
        seed=recipe.seed,
        correction=evaluate.correction,
        test=evaluate.test,
        called=called,
    )
