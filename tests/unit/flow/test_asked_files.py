"""Functions of the user's that decide a run belong to its fingerprint, wherever the recipe names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import job
import pytest

from sartor.flow.run import _fingerprint
from sartor.flow.stages import asked_files
from sartor.recipe.load import load

OWN = "own.py:score"
GRPO = {"objective": {"grpo": {"rewards": [{"metric": OWN}]}}}
PLACES: dict[str, dict[str, Any]] = {
    "evaluate.metrics": {"evaluate": {"metrics": [OWN]}},
    "train.stop.on": {"train": {"stop": {"on": OWN}}},
    "rewards.metric": {"train": GRPO, "method": "full"},
    "rewards.function": {"train": {"objective": {"grpo": {"rewards": [OWN]}}}},
    "goal.success": {"goal": {"success": [{"metric": OWN, "at_least": 0.5}]}},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_function_that_changes_is_another_run(place: str, tmp_path: Path) -> None:
    path = job.write(tmp_path, job.recipe(job.save_model(tmp_path / "model"), **PLACES[place]))
    loaded = load(path, ())
    digests = []
    for body in ("def score(prediction, reference): return 1.0\n", "def score(prediction, reference): return 0.0\n"):
        (tmp_path / "own.py").write_text(body)
        assert asked_files(loaded) == {"own.py": tmp_path / "own.py"}
        digests.append(_fingerprint(loaded).digest)
    assert digests[0] != digests[1]


def test_metrics_of_ours_have_no_file(tmp_path: Path) -> None:
    loaded = load(job.write(tmp_path, job.recipe(job.save_model(tmp_path / "model"))), ())
    assert asked_files(loaded) == {}
