"""How many examples the few-shot prompt holds: as many as do best on validation rows, so that the rival is a fair one.

shots.json      what was tried, on how many rows, and what was chosen
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.evaluate.numbers import score_text
from sartor.events import Noted
from sartor.flow.rounds import RewardMetric

if TYPE_CHECKING:
    from sartor.flow.measure import Bench
    from sartor.flow.prepare import Emit, Prepared
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Metric
    from sartor.store.run import Run

FILE = "shots.json"
TRIED = (0, 1, 2, 3, 5)
ROWS = 40
"""Validation rows that are asked for each of them, at most."""
FEWEST = 10
"""With fewer validation rows nothing is chosen by them."""


def tries(tools: Bench, prepared: Prepared) -> bool:
    """Whether the number is to be found."""
    return prepared.loaded.recipe.evaluate.shots == "auto" and len(tools.shots) > 0


def fewest_shots(tools: Bench, policy: ModelPolicy | None, prepared: Prepared, run: Run, emit: Emit) -> Bench:
    """The bench with the number of examples that did best, the fewer of equals.

    What was found once is read from the run. `policy` is the base, None where everything is measured already.
    """
    told = run.read_json(FILE)
    if told is None and policy is not None:
        told = _try(tools, policy, prepared, emit)
        if told is not None:
            run.write_json(FILE, told)
            emit(Noted("info", "E121", f"few-shot shows {told['chosen']} examples: {told['why']}"))
    if told is None:
        return tools
    prepared.resolution.decide("evaluate.shots", told["chosen"], told["why"])
    return replace(tools, shots=tools.shots[: told["chosen"]])


def _try(tools: Bench, policy: ModelPolicy, prepared: Prepared, emit: Emit) -> dict[str, Any] | None:
    from sartor.flow.answers import answers

    rows = np.unique(prepared.tokens["validation"].rows)
    metric = tools.metrics[0]
    if len(rows) < FEWEST or isinstance(metric, RewardMetric):
        return None
    chosen = np.sort(np.random.default_rng([prepared.loaded.recipe.seed, 7]).permutation(rows)[:ROWS]).tolist()
    scores: dict[int, float] = {}
    for count in (count for count in TRIED if count <= len(tools.shots)):
        shown = replace(tools, shots=tools.shots[:count])
        found = list(answers(prepared, policy, chosen, shown, name="few_shot", want=tools.want, emit=emit))
        scores[count] = float(metric.combine(metric.stats(found).sum(axis=0)))
    best = best_count(scores, metric)
    listed = ", ".join(f"{count}: {score_text(score, False)}" for count, score in scores.items())
    why = f"best {metric.name} on {len(chosen)} validation rows ({listed})"
    return {
        "rows": len(chosen),
        "metric": metric.name,
        "scores": {str(count): score for count, score in scores.items()},
        "chosen": best,
        "why": why,
    }


def best_count(scores: Mapping[int, float], metric: Metric) -> int:
    """The number with the best finite score, the fewest of equals; the largest where none is known."""
    known = {count: score for count, score in scores.items() if np.isfinite(score)}
    if not known:
        return max(scores)
    return min(known, key=lambda count: (-known[count] if metric.higher_is_better else known[count], count))
