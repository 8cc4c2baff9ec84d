"""`sartor run` on prompts alone: the policy writes the answers, is rewarded, and the verdict is about the reward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest
from job import Done, finish

from sartor.flow.check import check

FUNCTION = """\
def score(answers, rows):
    return [sum(c in 'aeiou' for c in answer) / max(1, len(answer)) for answer in answers]
"""


def body(model: Path) -> dict[str, Any]:
    objective = {"grpo": {"rewards": ["reward.py:score"], "prompts": 8, "samples": 4, "passes": 2, "max_new_tokens": 6}}
    train = {
        "objective": objective,
        "steps": 24,
        "batch": {"examples": 16},
        "validation": {"every": 8},
        "optimizer": {"adamw": {"learning_rate": 0.01}},
    }
    changed = job.recipe(model, train=train, method="full", goal="A prompt goes in, vowels come out")
    return changed | {"evaluate": {"against": ["base"], "resamples": 200}}


@pytest.fixture(scope="module")
def done(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("rounds")
    (folder / "reward.py").write_text(FUNCTION)
    return finish(folder, body(model), rows=[{"prompt": row["prompt"]} for row in job.orders()])


def test_the_verdict_is_about_the_reward(done: Done) -> None:
    verdict = json.loads((done.folder / "verdict.json").read_text())
    assert [gate["metric"] for gate in verdict["gates"]] == ["reward"]
    metrics = json.loads((done.folder / "comparison.json").read_text())
    assert "reward" in json.dumps(metrics)
    assert not (done.folder / "predictions/few_shot.jsonl").exists()


def test_every_round_is_told_and_its_answers_are_kept(done: Done) -> None:
    told = [json.loads(line) for line in (done.folder / "events.jsonl").read_text().splitlines()]
    rolled = [event for event in told if event["event"] == "round"]
    assert [event["round"] for event in rolled] == list(range(6))
    assert {"reward", "kl", "tokens", "unfinished", "repetition", "distinct", "entropy", "penalty"} == set(
        rolled[0]["metrics"]
    )
    assert rolled[0]["metrics"]["kl"] == 0
    kept = sorted((done.folder / "stages/0-grpo/rounds").iterdir())
    assert len(kept) == 6
    assert len(kept[0].read_text().splitlines()) == rolled[0]["answers"]
    validations = [event["metrics"] for event in told if event["event"] == "validation"]
    assert validations[0]["kl"] == 0
    assert validations[-1]["kl"] > 0
    assert all(each["loss"] == -each["reward"] for each in validations)


def test_a_check_plans_as_many_steps_as_are_asked_for(done: Done) -> None:
    told = check(done.recipe, (), lambda event: None).json()
    assert told["plan"]["steps"] == 24
    epochs = check(done.recipe, ("train={objective: {grpo: {rewards: [reward.py:score]}}, epochs: 1}",), print).json()
    assert epochs["plan"]["steps"] == epochs["plan"]["steps_per_epoch"] == -(-43 * 8 // 16)


def test_a_finished_run_is_not_run_again(done: Done) -> None:
    assert done.again().resumed_finished
