"""What a model says of rows, asked in the way that fits it: in words, by its head, by hidden tokens, or by frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sartor import registry
from sartor.events import Noted
from sartor.models.kinds import kind_of

if TYPE_CHECKING:
    from sartor.data.rows import Row
    from sartor.evaluate.hidden import Hide
    from sartor.flow.handover import Material
    from sartor.flow.measure import Bench
    from sartor.flow.prepare import Emit
    from sartor.models.base import ModelPolicy
    from sartor.models.heads import HeadSpec
    from sartor.protocols import Outcome, Traits

CALIBRATED = 2000
"""Validation rows that probabilities are calibrated on."""
FITTED = 2000
"""Training rows that a head on frozen features is fitted to."""


def answers(
    prepared: Material,
    policy: ModelPolicy,
    indices: Sequence[int],
    tools: Bench,
    *,
    name: str,
    want: frozenset[str],
    emit: Emit,
) -> Iterator[Outcome]:
    """The outcome of every row of `indices`, in that order. `name` is the model's: "base", "few_shot", "tuned" ..."""
    if prepared.inputs is not None and (policy.head is not None or by_features(prepared)):
        return _by_head(prepared, policy, indices, name, emit)
    traits: Traits = registry.component("objective", prepared.settings.objective.name).TRAITS
    if traits.symbols:
        from sartor.evaluate.hidden import predict_hidden

        most = prepared.settings.micro_tokens if policy.window is None else policy.window
        rows = prepared.rows.dataset
        hide = _hides(prepared)
        return predict_hidden(policy, prepared.renderer, rows, indices, hide, task=name, most=most, emit=emit)
    from sartor.evaluate.predict import predict

    return predict(
        policy,
        prepared.renderer,
        prepared.rows.dataset,
        indices,
        task=name,
        labels=tools.labels,
        shots=tools.shots if name == "few_shot" else (),
        max_new_tokens=tools.max_new_tokens,
        batch=tools.batch,
        want=want,
        emit=emit,
    )


def by_features(prepared: Material) -> bool:
    """Whether a base without a head cannot be asked in words for what the head tells."""
    head: HeadSpec | None = prepared.settings.head
    return (
        prepared.inputs is not None and head is not None and (kind_of(prepared.base) != "causal" or head.kind == "tags")
    )


def base_called(prepared: Material) -> str:
    """What the base that was measured is called for people."""
    return "a linear head on its base's frozen features" if by_features(prepared) else "its base"


def names_of(prepared: Material) -> dict[str, str]:
    """What models are called in tables and gates, where that is not their name."""
    return {"base": "linear head on base"} if by_features(prepared) else {}


def _by_head(
    prepared: Material, policy: ModelPolicy, indices: Sequence[int], name: str, emit: Emit
) -> Iterator[Outcome]:
    from sartor.evaluate.features import FeatureMeasurer
    from sartor.evaluate.heads import HeadMeasurer, predict_heads

    assert prepared.inputs is not None
    assert prepared.settings.head is not None
    if policy.head is not None:
        return predict_heads(
            HeadMeasurer(policy, prepared.inputs), prepared.rows.dataset, indices, task=name, emit=emit
        )
    fitted = FeatureMeasurer(policy, prepared.inputs, prepared.settings.head, _sample(prepared))
    return predict_heads(fitted, prepared.rows.dataset, indices, task=name, emit=emit)


def calibrate(prepared: Material, policy: ModelPolicy, emit: Emit) -> None:
    """Give the head of a trained policy the temperature and thresholds that the validation rows ask for."""
    if policy.head is None or prepared.inputs is None or policy.head.kind not in ("classes", "labels", "tags"):
        return
    from sartor.evaluate.calibrate import calibrated
    from sartor.evaluate.heads import HeadMeasurer

    rows = np.unique(prepared.tokens["validation"].rows)
    chosen = np.random.default_rng([prepared.loaded.recipe.seed, 4]).permutation(rows)[:CALIBRATED]
    if not len(chosen):
        return
    told = HeadMeasurer(policy, prepared.inputs).told([prepared.rows.dataset[int(index)] for index in np.sort(chosen)])
    policy.head = calibrated(policy.head, told)
    heat = policy.head.temperature
    what = f"probabilities are calibrated on {len(chosen):,} validation rows: temperature {heat:g}"
    emit(Noted("info", "N415", what + (", a threshold for each label" if policy.head.thresholds else "")))


def _sample(prepared: Material) -> list[Row]:
    """Training rows, the same each time."""
    rows = np.unique(prepared.tokens["train"].rows)
    chosen = np.random.default_rng([prepared.loaded.recipe.seed, 5]).permutation(rows)[:FITTED]
    return [prepared.rows.dataset[int(index)] for index in np.sort(chosen)]


def _hides(prepared: Material) -> Hide:
    """How the objective hides tokens, the same ones each time."""
    from sartor.objectives import masked_lm, span_corruption
    from sartor.tokens.symbols import Symbols

    symbols = Symbols.of(prepared.renderer.vocabulary)
    if prepared.settings.objective.name == "masked_lm":
        return partial(masked_lm.hide, options=masked_lm.Options(), symbols=symbols)
    return partial(span_corruption.corrupt, options=span_corruption.Options(), symbols=symbols)
