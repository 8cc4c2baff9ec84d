"""What rank 0 hands over is the same on the other side, and says what is missing there."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import job
import numpy as np
import pytest

from sartor.advise.settings import StageSettings
from sartor.errors import ModelError, RunError
from sartor.flow.handover import hand_over, settings_from_json, settings_json, take_over
from sartor.flow.measure import bench
from sartor.flow.prepare import PARTS, Prepared, prepare
from sartor.recipe.load import load
from sartor.store.run import Run


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, str, Path]:
    """(what rank 0 has, what it hands over, the run folder)."""
    home = tmp_path_factory.mktemp("handover")
    recipe = job.write(home / "job", job.recipe(job.save_model(home / "model"), method={"lora": {"rank": 4}}))
    with Run.into(home / "out", "job", "0" * 64) as run:
        prepared = prepare(load(recipe, ["seed=5"]), run.folder / "data", lambda event: None)
        tools = bench(prepared, lambda event: None)
        call = hand_over(prepared, tools, run, run.stage(0, "sft"), number=0, data=run.folder / "data")
    return prepared, json.dumps(call), home


def test_settings_survive_as_json(handed: tuple[Prepared, str, Path]) -> None:
    settings = handed[0].settings
    other = settings_from_json(json.loads(json.dumps(settings_json(settings))))
    for each in fields(StageSettings):
        assert getattr(other, each.name) == getattr(settings, each.name), each.name


def test_the_other_side_has_the_same(handed: tuple[Prepared, str, Path]) -> None:
    prepared, call, _ = handed
    other = take_over(json.loads(call), threads=prepared.settings.threads)
    assert other.loaded.recipe == prepared.loaded.recipe
    assert other.loaded.root == prepared.loaded.root
    assert settings_json(other.settings) == settings_json(prepared.settings)
    assert other.base.path == prepared.base.path
    assert other.renderer.fingerprint == prepared.renderer.fingerprint
    assert [other.rows.dataset.line(row) for row in range(len(other.rows.dataset))] == [
        prepared.rows.dataset.line(row) for row in range(len(prepared.rows.dataset))
    ]
    for part in PARTS:
        ours, theirs = prepared.tokens[part], other.tokens[part]
        assert len(ours) == len(theirs)
        assert all(np.array_equal(a.ids, b.ids) for a, b in zip(ours, theirs, strict=True))


def test_a_run_folder_that_is_not_seen_is_named(handed: tuple[Prepared, str, Path]) -> None:
    call = {**json.loads(handed[1]), "data": str(handed[2] / "elsewhere")}
    with pytest.raises(RunError, match=r"elsewhere.*P113.*--out /shared/RUN"):
        take_over(call, threads=1)


def test_another_base_is_refused(handed: tuple[Prepared, str, Path]) -> None:
    model, kept = handed[2] / "model", handed[2] / "kept"
    shutil.copytree(model, kept)
    try:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
        with pytest.raises(ModelError, match="P114"):
            take_over(json.loads(handed[1]), threads=1)
    finally:
        shutil.rmtree(model)
        kept.rename(model)
