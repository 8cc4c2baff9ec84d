"""What a recipe's own answers take of memory is in the forecast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import job
import pytest

from sartor.advise import memory
from sartor.flow.prepare import prepare
from sartor.recipe.load import load

GRPO = {"grpo": {"rewards": ["exact_match"], "prompts": 10, "samples": 4, "max_new_tokens": 30}}


def planned(tmp_path: Path, objective: dict[str, Any]) -> memory.Job:
    train = {"objective": objective, "stop": {"patience": 0}}
    path = job.write(tmp_path, job.recipe(job.save_model(tmp_path / "model"), train=train, method="full"))
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    return prepare(load(path, ()), folder, lambda event: None).settings.plan.job


def test_a_round_is_forecast(tmp_path: Path) -> None:
    found = planned(tmp_path, GRPO)
    assert found.writing is not None
    assert (found.writing.rows, found.writing.answer) == (40, 30)
    assert found.writing.kept == 40 * (found.writing.prompt + 30)
    assert found.asked > 0, "the reference"


@pytest.mark.parametrize("share", [None, 0.5])
def test_a_student_that_answers_is_forecast(tmp_path: Path, share: float | None) -> None:
    job.save_model(tmp_path / "teacher", seed=3)
    own = {} if share is None else {"on_policy": {"share": share, "max_new_tokens": 40}}
    found = planned(tmp_path, {"distill": {"teacher": str(tmp_path / "teacher"), **own}})
    plain = planned(tmp_path, {"distill": {"teacher": str(tmp_path / "teacher")}})
    if share is None:
        assert found.writing is None
        return
    assert found.writing is not None
    assert (found.writing.rows, found.writing.answer) == (8, 40)
    assert found.tokens == plain.tokens + 40
    assert replace(found, writing=None).asked == plain.asked
