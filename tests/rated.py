"""A finished run that never trained, for people to rate: its answers, its settings and the facts of its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from sartor.evaluate.compare import compare
from sartor.evaluate.facts import ReportFacts
from sartor.evaluate.metrics import load as load_metrics
from sartor.evaluate.outcomes import to_line
from sartor.evaluate.verdict import judge
from sartor.flow.rebuilt import FACTS, kept
from sartor.protocols import Outcome
from sartor.recipe.schema import Gate
from sartor.store.run import Run

DIGEST = "5eed" * 16
SAME = 4
"""Every fourth row has the same answer from both models."""


def answers(count: int = 12) -> dict[str, list[Outcome]]:
    """Every answer is told apart from every other, but for the rows where both are the same."""
    return {
        model: [
            Outcome(
                id=f"orders.jsonl:{row + 1}",
                prompt=f"What is order {row}?",
                reference=f"right {row}",
                prediction=f"alike {row}" if row % SAME == 0 else f"{word} {row}",
            )
            for row in range(count)
        ]
        for model, word in (("base", "plain"), ("tuned", "splendid"))
    }


def finished(folder: Path, outcomes: Mapping[str, list[Outcome]] | None = None, **evaluate: object) -> Path:
    """The run folder."""
    outcomes = answers() if outcomes is None else outcomes
    with Run.into(folder, "rated", DIGEST) as run:
        run.mark("running")
        (folder / "predictions").mkdir()
        for model, given in outcomes.items():
            lines = "".join(to_line(outcome) + "\n" for outcome in given)
            (folder / "predictions" / f"{model}.jsonl").write_text(lines, encoding="utf-8")
        run.write_text("resolved.yaml", yaml.safe_dump({"evaluate": {"confidence": 0.95, **evaluate}}))
        comparison = compare(outcomes, load_metrics(["exact_match"], folder), resamples=200)
        verdict = judge([Gate(metric="exact_match", better_than="base")], comparison).json()
        run.write_json(FACTS, kept(ReportFacts("rated", verdict, comparison.json())))
        run.mark("finished")
    return folder
