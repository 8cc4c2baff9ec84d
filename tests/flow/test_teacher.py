"""A run that learns from a teacher, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import job
import pytest

from sartor.errors import InputError, ModelError, RunError
from sartor.flow.run import run


def quiet(event: object) -> None:
    """Shows nothing."""


def body(model: Path, teacher: str) -> dict[str, Any]:
    train = {
        "objective": {"distill": {"teacher": teacher}},
        "steps": 12,
        "optimizer": {"adamw": {"learning_rate": 0.001}},
    }
    evaluate = {"metrics": ["perplexity"], "against": ["base"], "rows": 6}
    return job.recipe(model, method="full", train=train, evaluate=evaluate)


def test_the_student_comes_nearer_and_another_teacher_is_another_run(model: Path, tmp_path: Path) -> None:
    teacher = job.save_model(tmp_path / "teacher", seed=9)
    done = job.finish(tmp_path, body(model, "teacher"))
    found = [event.metrics["divergence"] for event in done.events if getattr(event, "kind", "") == "step"]
    assert found[-1] < found[0]
    job.save_model(teacher, seed=10)
    with pytest.raises(RunError):
        done.again()


def test_a_student_that_answers_itself_is_measured_on_its_answers(model: Path, tmp_path: Path) -> None:
    job.save_model(tmp_path / "teacher", seed=9)
    recipe = body(model, "teacher")
    recipe["train"]["objective"]["distill"]["on_policy"] = {"share": 0.7, "max_new_tokens": 6}
    done = job.finish(tmp_path, recipe)
    steps = [event.metrics for event in done.events if getattr(event, "kind", "") == "step"]
    assert steps[-1]["divergence"] < steps[0]["divergence"]
    told = [event.metrics for event in done.events if getattr(event, "kind", "") == "validation"]
    assert set(told[0]) == {"loss", "divergence", "perplexity", "tokens"}
    assert told[-1]["loss"] == told[-1]["divergence"] < told[0]["divergence"]
    assert 0 < told[0]["tokens"] <= 6


def test_a_student_is_asked_prompts_alone(model: Path, tmp_path: Path) -> None:
    job.save_model(tmp_path / "teacher", seed=9)
    recipe = body(model, "teacher") | {"goal": {"task": "pretrain"}}
    recipe["train"]["objective"]["distill"]["on_policy"] = 0.5
    path = job.write(tmp_path, recipe, job.texts())
    with pytest.raises(InputError, match="the student answers prompts, and text rows have none"):
        run(path, tmp_path / "out", (), (), quiet)


@pytest.mark.parametrize(("teacher", "code"), [("nowhere", "M100"), ("sartor/nano", "M185")])
def test_a_teacher_that_cannot_teach_is_refused(model: Path, tmp_path: Path, teacher: str, code: str) -> None:
    recipe = job.write(tmp_path, body(model, teacher))
    with pytest.raises(InputError) as caught:
        run(recipe, tmp_path / "out", (), (), quiet)
    assert [problem.code for problem in caught.value.problems] == [code]
    assert isinstance(caught.value, ModelError)
    assert not (tmp_path / "out").exists()
