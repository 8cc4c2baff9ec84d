"""One model folder for all flow tests, and one finished run for those that only look."""

from __future__ import annotations

from pathlib import Path

import job
import pytest
from job import Done, finish


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("model") / "tiny")


GATES = {
    "task": "generate",
    "statement": "An order in words goes in, JSON comes out",
    "success": [{"metric": "perplexity", "better_than": "base"}, {"metric": "perplexity", "at_most": 350}],
}


@pytest.fixture(scope="session")
def lora(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run with gates that it passes."""
    train = {"steps": 40, "optimizer": {"adamw": {"learning_rate": 0.05}}}
    body = job.recipe(model, train=train, goal=GATES, method={"lora": {"rank": 8}})
    return finish(tmp_path_factory.mktemp("lora"), body)


@pytest.fixture(scope="session")
def full(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Full fine-tuning without gates of its own."""
    return finish(tmp_path_factory.mktemp("full"), job.recipe(model, method="full"))
