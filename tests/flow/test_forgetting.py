"""General ability in a run: measured at every validation, alarmed about, and the model chosen by its bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest
import torch
from job import Done, finish
from safetensors.torch import load_file

from sartor.flow.steer import STEERING

BOUND = 0.2


def questions(folder: Path) -> None:
    """What training teaches to say is wrong here, and what it makes unlikely is right."""
    folder.mkdir(parents=True, exist_ok=True)
    taught = ("item", "colour", "count", "red")
    rows = [
        {"prompt": f"say {n} of {n * 7 % 11}", "completion": "qzxvkwyj"[n % 8], "wrong": [taught[n % 4]]}
        for n in range(48)
    ]
    job.write_rows(folder / "asked.jsonl", rows)


def body(model: Path, **general: Any) -> dict[str, Any]:
    """Training that goes far enough to change what the model says to anything."""
    return job.recipe(
        model,
        method="full",
        train={"steps": 24, "optimizer": {"adamw": {"learning_rate": 0.05}}, "validation": {"every": 8}},
        evaluate={
            "metrics": ["perplexity"],
            "against": ["base"],
            "rows": 6,
            "general": {"data": "asked.jsonl", **general},
        },
        goal={"task": "generate", "success": [{"metric": "perplexity", "better_than": "base"}]},
    )


def steering(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((done.folder / "stages/0-sft" / STEERING).read_text(encoding="utf-8"))
    return found


def ended(model: Path, folder: Path, method: Any = None, **general: Any) -> Done:
    questions(folder)
    return finish(folder, body(model, **general) | ({"method": method} if method else {}))


@pytest.fixture(scope="module")
def free(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return ended(model, tmp_path_factory.mktemp("free"), drop_at_most=BOUND, steer=False)


@pytest.fixture(scope="module")
def steered(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return ended(model, tmp_path_factory.mktemp("steered"), drop_at_most=BOUND)


def test_every_validation_tells_the_score(free: Done) -> None:
    told = [event.metrics for event in free.events if event.kind == "validation"]  # type: ignore[attr-defined]
    assert len(told) == 4
    assert all(0 <= metrics["general"] <= 1 and metrics["general_error"] > 0 for metrics in told)


def test_over_training_fails_without_steering_and_passes_with_it(free: Done, steered: Done) -> None:
    gates = [{gate["metric"]: gate["pass"] for gate in done.ran.verdict["gates"]} for done in (free, steered)]
    assert gates == [{"perplexity": True, "general": False}, {"perplexity": True, "general": True}]
    assert (free.ran.exit_code, steered.ran.exit_code) == (1, 0)
    assert not (free.folder / "stages/0-sft" / STEERING).exists()


def test_the_place_taken_is_the_best_of_those_that_fit(steered: Done) -> None:
    found = steering(steered)
    taken = [point for point in found["points"] if {"step": point["step"], "alpha": point["alpha"]} == found["chosen"]]
    fitting = [point for point in found["points"] if point["fits"]]
    assert taken == [min(fitting, key=lambda point: point["task"])]
    assert all(point["fits"] == (point["low"] >= -BOUND) for point in found["points"])
    assert any(not point["fits"] for point in found["points"])
    assert 0 < found["chosen"]["alpha"] < 1
    notes = [event.message for event in steered.events if event.kind == "note"]  # type: ignore[attr-defined]
    assert any("of the way from its start instead of step" in note for note in notes)


def test_full_tuning_is_drawn_back_to_its_base(model: Path, free: Done, steered: Done) -> None:
    chosen = steering(steered)["chosen"]
    facts = json.loads((free.folder / "model/sartor.json").read_text())
    assert facts["best_step"] == chosen["step"], "both runs train alike"
    start = load_file(model / "model.safetensors")
    tuned, drawn = (load_file(each.folder / "model/model.safetensors") for each in (free, steered))
    for name, tensor in drawn.items():
        torch.testing.assert_close(tensor, torch.lerp(start[name], tuned[name], chosen["alpha"]))
    assert not list(steered.folder.glob("stages/*/start*")), "nothing is left of what was needed on the way"


def test_the_scale_is_in_the_adapter_that_is_published(model: Path, tmp_path: Path) -> None:
    lora = {"lora": {"rank": 4}}
    steered = ended(model, tmp_path / "steered", lora, drop_at_most=0.048)
    free = ended(model, tmp_path / "free", lora, drop_at_most=0.048, steer=False)
    chosen = steering(steered)["chosen"]
    assert 0 < chosen["alpha"] < 1
    whole, drawn = (load_file(done.folder / "model/adapter_model.safetensors") for done in (free, steered))
    for name, tensor in whole.items():
        factor = chosen["alpha"] if "lora_B" in name else 1.0
        torch.testing.assert_close(drawn[name], tensor * factor)


def test_the_test_rows_and_the_questions_of_the_verdict_stay_closed(steered: Done) -> None:
    accesses = json.loads((steered.folder / "data/test_accesses.json").read_text())
    assert [entry["model"] for entry in accesses] == ["base", "tuned"]
    assert steering(steered)["questions"] == 16
    assert steered.ran.comparison["rows"] == 6


def test_the_report_shows_both_and_the_choice(steered: Done) -> None:
    report = (steered.folder / "report.html").read_text(encoding="utf-8")
    assert "Task and general ability" in report
    assert "general ability over loss for every place that could be the model" in report
    assert "at most 0.2" in report


def test_forgetting_can_end_training(model: Path, tmp_path: Path) -> None:
    questions(tmp_path)
    recipe = body(model, drop_at_most=BOUND, steer=False)
    recipe["train"] |= {"stop": {"forgetting": "stop", "patience": 0}}
    done = finish(tmp_path, recipe)
    (ending,) = [event for event in done.events if event.kind == "finished"]
    alarms = [event for event in done.events if event.kind == "note" and event.code == "N416"]  # type: ignore[attr-defined]
    assert len(alarms) == 1
    assert "general ability has fallen" in ending.reason  # type: ignore[attr-defined]
    assert ending.step < 24  # type: ignore[attr-defined]


def test_a_method_without_a_way_back_says_what_to_try(model: Path, tmp_path: Path) -> None:
    done = ended(model, tmp_path, "ia3", drop_at_most=0.0001)
    found = steering(done)
    assert {point["alpha"] for point in found["points"]} == {1.0}
    assert found["chosen"] is None
    notes = [event.message for event in done.events if event.kind == "note"]  # type: ignore[attr-defined]
    assert any("role: replay" in note for note in notes)


@pytest.mark.slow
def test_the_embedded_model_overtrained_fails_and_steered_passes(tmp_path: Path) -> None:
    recipe = {
        "base": "sartor/nano",
        "data": {
            "sources": [{"path": "builtin:demo", "id": "id"}],
            "split": {"train": 0.3, "validation": 0.1, "test": 0.6},
        },
        "goal": {"task": "generate", "success": [{"metric": "perplexity", "better_than": "base"}]},
        "method": "full",
        "train": {
            "epochs": 4,
            "batch": {"examples": 16},
            "threads": 1,
            "optimizer": {"adamw": {"learning_rate": 0.003}},
        },
        "evaluate": {"metrics": ["perplexity"], "against": ["base"], "rows": 80},
    }
    passed = {}
    for steer in (False, True):
        recipe["evaluate"]["general"] = {"drop_at_most": 0.03, "steer": steer}  # type: ignore[index]
        passed[steer] = finish(tmp_path / str(steer), recipe, rows=[]).ran.verdict["pass"]
    assert passed == {False: False, True: True}
