"""A list of training stages: each begins with what the one before made, resumes, and keeps the verdict's rows apart."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import job
import pytest
import yaml
from job import Done, finish
from safetensors.torch import load_file

from sartor.errors import DataError, Interrupted, RecipeError
from sartor.flow.check import check
from sartor.flow.run import run
from sartor.flow.signals import Stop
from sartor.models.catalog import resolve


def quiet(event: object) -> None:
    """Shows nothing."""


def body(model: Path, **changes: Any) -> dict[str, Any]:
    """Raw text first, then orders."""
    plain = job.recipe(model, evaluate={"metrics": ["perplexity"], "against": ["base"], "rows": 6})
    stage = plain["train"]
    split = {"train": 0.8, "validation": 0.2, "test": 0.0}
    texts = {"sources": ["texts.jsonl"], "split": split}
    stages = [
        {**stage, "objective": "pretrain", "data": texts, "steps": 4},
        {**stage, "objective": "sft", "method": "full", "steps": 6, "optimizer": {"adamw": {"learning_rate": 0.002}}},
    ]
    return json.loads(json.dumps({**plain, "train": stages, **changes}))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def texts() -> list[dict[str, str]]:
    """Documents that have nothing to do with the orders."""
    words = [
        "the",
        "old",
        "grey",
        "mill",
        "stood",
        "by",
        "water",
        "while",
        "boys",
        "sang",
        "low",
        "songs",
        "about",
        "rain",
    ]
    return [{"text": " ".join(words[(index * 7 + place * 5) % 13] for place in range(12))} for index in range(40)]


def prepared(folder: Path, texts: list[dict[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    job.write_rows(folder / "texts.jsonl", texts)
    return folder


@pytest.fixture(scope="module")
def done(model: Path, tmp_path_factory: pytest.TempPathFactory, texts: list[dict[str, str]]) -> Done:
    return finish(prepared(tmp_path_factory.mktemp("stages"), texts), body(model))


def test_every_stage_leaves_its_model_and_what_it_took(done: Done) -> None:
    assert (done.folder / "stages/0-pretrain/model/adapter_model.safetensors").is_file()
    assert (done.folder / "stages/0-pretrain/whole/model.safetensors").is_file()
    assert (done.folder / "model/model.safetensors").is_file()
    steps = [
        json.loads((done.folder / f"stages/{name}/training.json").read_text())["step"]
        for name in ("0-pretrain", "1-sft")
    ]
    assert steps == [4, 6]
    verdict = json.loads((done.folder / "verdict.json").read_text())
    assert verdict["train"]["steps"] == 10
    assert verdict["train"]["best_step"] == 6


def test_a_stage_begins_with_what_the_one_before_made(done: Done, model: Path) -> None:
    facts = json.loads((done.folder / "model/sartor.json").read_text())
    assert facts["base_path"] == str((done.folder / "stages/0-pretrain/whole").resolve())
    before, after = (
        load_file(model / "model.safetensors"),
        load_file(done.folder / "stages/0-pretrain/whole/model.safetensors"),
    )
    assert any(not before[name].equal(after[name]) for name in before), "the adapter is in it"


def test_the_report_shows_both_and_the_history_names_them(done: Done) -> None:
    report = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "pretrain, 1 of 2" in report
    assert "sft, 2 of 2" in report
    first = json.loads((done.folder / "events.jsonl").read_text().splitlines()[0])
    assert first["about"]["objective"] == "pretrain > sft"


def test_the_resolved_recipe_holds_every_stage(done: Done) -> None:
    resolved = yaml.safe_load((done.folder / "resolved.yaml").read_text())
    assert [list(stage["objective"]) for stage in resolved["train"]] == [["pretrain"], ["sft"]]
    (done.recipe.parent / "again.yaml").write_text((done.folder / "resolved.yaml").read_text())
    found = check(done.recipe.parent / "again.yaml", (), quiet)
    assert [plan["steps"] for plan in found.plans] == [4, 6]


def test_run_again_it_is_finished(done: Done) -> None:
    assert done.again().resumed_finished


def test_stopped_in_the_second_stage_it_resumes_to_the_same_bits(
    done: Done, model: Path, tmp_path: Path, texts: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = job.write(prepared(tmp_path, texts), body(model))
    second: list[int] = []

    def hear(event: Any) -> None:
        if getattr(event, "kind", "") == "stage" and event.detail.startswith("sft"):
            second.append(0)
        elif getattr(event, "kind", "") == "step" and second:
            second.append(event.step)

    with monkeypatch.context() as patch:
        patch.setattr(Stop, "asked", lambda self: second[-1:] == [3])
        with pytest.raises(Interrupted):
            run(recipe, tmp_path / "out", (), (), hear)
    assert not (tmp_path / "out/model").exists()
    events: list[Any] = []
    run(recipe, tmp_path / "out", (), (), events.append)
    steps = [event.step for event in events if getattr(event, "kind", "") == "step"]
    assert steps == [5, 6], "the first stage is not trained again, nor what is saved of the second"
    whole, again = (load_file(folder / "model/model.safetensors") for folder in (done.folder, tmp_path / "out"))
    assert all(whole[name].equal(again[name]) for name in whole)


def test_rows_of_a_stage_must_not_give_away_the_test(model: Path, tmp_path: Path) -> None:
    rows = [{"text": row["prompt"]} for row in job.orders()]
    recipe = job.write(prepared(tmp_path, rows), body(model))
    with pytest.raises(DataError) as caught:
        run(recipe, tmp_path / "out", (), (), quiet)
    assert {problem.code for problem in caught.value.problems} == {"D153"}
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(
    done: Done, model: Path, tmp_path: Path, texts: list[dict[str, str]]
) -> None:
    recipe = job.write(prepared(tmp_path, texts), body(model))
    ended = subprocess.run(
        job.command("run", recipe, "--out", tmp_path / "out", "--processes", "2", "train.parallel=ddp"),
        env=job.ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    whole, again = (load_file(folder / "model/model.safetensors") for folder in (done.folder, tmp_path / "out"))
    assert all((whole[name] - again[name]).abs().max() < 1e-4 for name in whole)


def test_a_reward_model_judges_the_stage_after_it(model: Path, tmp_path: Path) -> None:
    pairs = [
        {"prompt": f"Say {index} {word}", "chosen": f"yes {word} {index}", "rejected": "no"}
        for index, word in enumerate(["lamp", "rug", "bed", "door"] * 6)
    ]
    job.write_rows(tmp_path / "pairs.jsonl", pairs)
    job.write_rows(tmp_path / "asked.jsonl", [{"prompt": f"Tell me of thing {index} here"} for index in range(12)])
    plain = body(model)
    split = {"train": 0.75, "validation": 0.25, "test": 0.0}
    common = {"batch": {"examples": 4}, "threads": 1, "steps": 2}
    stages = [
        {"objective": "sft", **common},
        {"objective": "reward", "data": {"sources": ["pairs.jsonl"], "split": split}, **common},
        {
            "objective": {"ppo": {"max_new_tokens": 4, "prompts": 4, "passes": 1}},
            "prompts": {"sources": ["asked.jsonl"], "split": split},
            **common,
        },
    ]
    done = finish(tmp_path, json.loads(json.dumps({**plain, "train": stages})))
    judge = json.loads((done.folder / "stages/1-reward/model/sartor.json").read_text())
    assert judge["base_path"] == str((done.folder / "stages/0-sft/whole").resolve())
    tuned = json.loads((done.folder / "model/sartor.json").read_text())
    assert tuned["base_path"] == judge["base_path"], "a reward model is a judge, not a beginning"
    shutil.copytree(done.folder, tmp_path / "elsewhere")
    base = resolve(str(tmp_path / "elsewhere"), Path("/")).base
    assert base is not None
    assert base.path == (tmp_path / "elsewhere/stages/0-sft/whole").resolve(), "a run can be moved as a whole"
    rounds = list((done.folder / "stages/2-ppo/rounds").iterdir())
    assert rounds
    said = json.loads(rounds[0].read_text(encoding="utf-8").splitlines()[0])
    assert isinstance(said["reward"], float)
    assert "What it wrote in its last round" in (done.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("rewards", [[{"stage": "reward"}], []])
def test_a_judge_that_does_not_come_before_is_refused(model: Path, tmp_path: Path, rewards: list[Any]) -> None:
    stages = [{"objective": {"ppo": {"rewards": rewards}}, "steps": 1}]
    recipe = job.write(tmp_path, {**body(model), "train": stages})
    with pytest.raises(RecipeError) as caught:
        run(recipe, tmp_path / "out", (), (), quiet)
    assert [problem.code for problem in caught.value.problems] == ["R106"]
