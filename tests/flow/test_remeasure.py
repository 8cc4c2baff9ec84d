"""A recipe that is changed while its run is not finished: what was measured is kept where the change leaves it as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest

from sartor.errors import Interrupted
from sartor.evaluate.outcomes import read_outcomes
from sartor.flow import run as running
from sartor.flow.remeasure import forget, merged
from sartor.flow.run import run
from sartor.generate.local import LocalGenerator
from sartor.protocols import Outcome


def quiet(event: object) -> None:
    """Shows nothing."""


class Asked:
    """Counts prompts that are answered in words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        plain = LocalGenerator.generate

        def generate(generator: Any, prompts: Any, **how: Any) -> Any:
            self.count += len(prompts)
            return plain(generator, prompts, **how)

        monkeypatch.setattr(LocalGenerator, "generate", generate)


def stopped_before_its_verdict(recipe: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    """Everything is measured, and the run is interrupted where it would conclude."""
    with monkeypatch.context() as patch:

        def interrupted(*given: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(running._Session, "_conclude", interrupted)
        with pytest.raises(Interrupted):
            run(recipe, out, overrides, (), quiet)


def test_a_further_metric_asks_nothing_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = {"metrics": ["json_valid"], "against": ["base"], "rows": 6}
    recipe = job.write(tmp_path, job.recipe(model, train={"steps": 2}, evaluate=evaluate))
    stopped_before_its_verdict(recipe, tmp_path / "out", monkeypatch)
    before = {name: read_outcomes(tmp_path / "out/predictions" / f"{name}.jsonl") for name in ("base", "tuned")}
    assert all(outcome.tokens == 0 for outcome in before["base"])
    asked = Asked(monkeypatch)
    more = ("evaluate.metrics=[json_valid, rougeL, perplexity]", "evaluate.slices=[{field: length, least: 2}]")
    ran = run(recipe, tmp_path / "out", more, ("evaluate",), quiet)
    assert asked.count == 0
    assert [metric["name"] for metric in ran.comparison["metrics"]] == ["json_valid", "rougeL", "perplexity"]
    assert set(ran.comparison["metrics"][2]["scores"]) == {"base", "tuned"}
    for name, outcomes in before.items():
        after = read_outcomes(tmp_path / "out/predictions" / f"{name}.jsonl")
        assert [(row.id, row.prediction) for row in after] == [(row.id, row.prediction) for row in outcomes]
        assert all(row.tokens > 0 for row in after)
    anew = run(recipe, tmp_path / "anew", more, (), quiet)
    assert anew.comparison["metrics"] == ran.comparison["metrics"]
    assert json.loads((tmp_path / "out/predictions/want.json").read_text())["base"] == ["nll", "prediction"]


def test_longer_answers_are_made_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = {"metrics": ["json_valid"], "against": ["base"], "rows": 6}
    recipe = job.write(tmp_path, job.recipe(model, train={"steps": 2}, evaluate=evaluate))
    stopped_before_its_verdict(recipe, tmp_path / "out", monkeypatch)
    asked = Asked(monkeypatch)
    run(recipe, tmp_path / "out", ("evaluate.max_new_tokens=3",), ("evaluate",), quiet)
    assert asked.count >= 12


def fields(**changes: Any) -> dict[str, Any]:
    """A fingerprint: three models and two suites."""
    return {
        "recipe.seed": 1,
        "recipe.evaluate.metrics.count": 1,
        "recipe.evaluate.against.count": 3,
        "recipe.evaluate.against[0]": "base",
        "recipe.evaluate.against[1].model": "runs/a",
        "recipe.evaluate.against[1].retrieval": None,
        "recipe.evaluate.against[2].retrieval.k": 3,
        "recipe.evaluate.against[2].retrieval.documents": None,
        "recipe.evaluate.safety[0].toxicity.rows": 5,
        "recipe.evaluate.benchmarks[0].rows.data": "x",
        "data.rival a model.safetensors": "1",
        **{key.replace("__", "."): value for key, value in changes.items()},
    }


MEASURED = [
    "predictions/base.jsonl", "predictions/tuned.jsonl", "predictions/a.jsonl", "predictions/retrieval.jsonl",
    "suites/safety-toxicity.json", "suites/benchmark-rows.json", "shots.json",
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({"recipe.evaluate.metrics.count": 2, "recipe.goal.success[0].metric": "x"}, []),
        ({"recipe.evaluate.slices[0].field": "x", "recipe.evaluate.confidence": 0.9}, []),
        ({"recipe.evaluate.safety[0].toxicity.rows": 6}, ["suites/safety-toxicity.json"]),
        ({"recipe.evaluate.safety[1].bias.rows": 6, "recipe.evaluate.safety.count": 2}, []),
        ({"recipe.evaluate.against[2].retrieval.k": 2}, ["predictions/retrieval.jsonl"]),
        ({"recipe.evaluate.against[3]": "few_shot", "recipe.evaluate.against.count": 4}, []),
        ({"data.rival a model.safetensors": "2"}, ["predictions/a.jsonl"]),
        ({"recipe.evaluate.max_new_tokens": 9}, MEASURED),
        ({"recipe.seed": 2}, MEASURED),
    ],
)
def test_only_what_a_change_touches_is_removed(tmp_path: Path, change: dict[str, Any], gone: list[str]) -> None:
    for name in MEASURED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    forget(tmp_path, fields(), fields() | change)
    assert [name for name in MEASURED if not (tmp_path / name).exists()] == gone


def test_an_outcome_gains_what_another_says_beyond_it() -> None:
    first = Outcome("1", "q", "yes", "no", stopped=False, columns={"a": 1})
    more = Outcome("1", "q", "yes", nll=2.0, tokens=3, bytes=4, columns={"a": 1})
    found = merged(first, more)
    assert (found.prediction, found.stopped, found.nll, found.tokens, found.bytes) == ("no", False, 2.0, 3, 4)
