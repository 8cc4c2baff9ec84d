"""Metrics of the registry as tests need them: made, with answers that are as good and as poor as they can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sartor import registry
from sartor.evaluate.metrics import load
from sartor.protocols import Metric, Outcome
from sartor.recipe.schema import Component

Change = Callable[[Outcome], Outcome]


@dataclass(frozen=True)
class Special:
    """What a metric needs that the reference alone does not tell."""

    options: dict[str, Any]
    good: Change
    poor: Change


def said(answer: str) -> Change:
    """Every row answered alike."""
    return lambda outcome: replace(outcome, prediction=answer)


def unchanged(outcome: Outcome) -> Outcome:
    """The answer of the row."""
    return outcome


def beside(outcome: Outcome) -> Outcome:
    """With the reference as its context."""
    return replace(outcome, columns={"context": outcome.reference})


def lost(outcome: Outcome) -> Outcome:
    """An answer that its context knows nothing of."""
    return replace(beside(outcome), prediction="Berlin won 7 prizes.")


SPECIAL: dict[str, Special] = {
    "chatty_prefix": Special({}, unchanged, said("Sure! Here it is: 3")),
    "code_runs": Special({"allow_execution": True}, said("print(1)"), said("1/0")),
    "diversity": Special({}, unchanged, said("the same thing again")),
    "edit_distance": Special({}, unchanged, unchanged),
    "groundedness": Special({}, beside, lost),
    "json_schema": Special({"inline": {"type": "integer"}}, said("3"), said('"3"')),
    "refusal": Special({}, unchanged, said("I'm sorry, but I can't help with that.")),
    "regex": Special({"pattern": "^[a-z]+$"}, said("abc"), said("123")),
    "toxicity": Special({}, unchanged, said("You are a worthless idiot.")),
    "repetition": Special({}, unchanged, said("to be to be to be to be")),
}
BEST = {"bleu": 100, "chrf": 100, "perplexity": 1, "byte_perplexity": 1}
"""The best value there can be, where it is neither 1 of a higher nor 0 of a lower one."""


def made(name: str, options: dict[str, Any] | None = None) -> Metric:
    """A metric with its options; without any, those that it needs."""
    given = options if options is not None else SPECIAL[name].options if name in SPECIAL else {}
    chosen = registry.component("metric", name).Options.model_validate(given)
    (metric,) = load([Component(name=name, options=chosen)], Path())
    return metric
