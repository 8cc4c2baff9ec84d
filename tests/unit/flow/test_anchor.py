"""`train.anchor` in a run: rows of an earlier task are proven before training, weighed once, and read again on resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import job
import pytest
import torch
from safetensors.torch import load_file

from sartor.engine.anchors import ewc
from sartor.engine.parallel.world import ALONE
from sartor.errors import InputError, Interrupted, ModelError, RunError
from sartor.events import Event, Stepped
from sartor.flow.anchor import anchored
from sartor.flow.check import check
from sartor.flow.run import run
from sartor.recipe.load import load

HELD = {"ewc": {"data": "earlier.jsonl", "rows": 5, "strength": 3}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.save_model(tmp_path_factory.mktemp("anchor") / "model")


def write(folder: Path, model: Path, anchor: Any, method: Any = "full", **train: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [{"prompt": f"What is {n} + 1?", "completion": str(n + 1)} for n in range(12)]
    job.write_rows(folder / "earlier.jsonl", earlier)
    changes = {"method": method, "train": {"anchor": anchor, "steps": 6, "stop": {"patience": 0}, **train}}
    return job.write(folder, job.recipe(model, evaluate={"against": ["base"]}, **changes))


def stage(out: Path) -> Path:
    (found,) = out.glob("stages/*/anchor")
    return found


def stop_at(step: int) -> Callable[[Event], None]:
    """Stops a run at a step, as Ctrl-C does."""

    def see(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == step:
            raise KeyboardInterrupt

    return see


def moved(model: Path, out: Path) -> float:
    """How far the last step's weights are from the start."""
    start = load_file(model / "model.safetensors")
    last = sorted(out.glob("stages/*/checkpoints/step-*"))[-1]
    return float(sum((t - start[name]).square().sum() for name, t in load_file(last / "weights.safetensors").items()))


@pytest.mark.parametrize("anchor", [{"l2_start": {"strength": 5}}, {"ewc": {**HELD["ewc"], "strength": 1000}}])
def test_a_run_stays_nearer_to_its_base_and_says_so(anchor: Any, model: Path, tmp_path: Path) -> None:
    far = {}
    for name, value in (("free", "none"), ("held", anchor)):
        events: list[Event] = []
        run(write(tmp_path / name, model, value), tmp_path / name / "out", [], (), events.append)
        far[name] = moved(model, tmp_path / name / "out")
        told = [event.metrics.get("anchor") for event in events if isinstance(event, Stepped)]
        assert (told == [None] * 6) is (name == "free")
    assert told[0] == 0 < told[-1]
    assert far["held"] < 0.9 * far["free"]
    logged = [json.loads(line) for line in (tmp_path / "held/out/events.jsonl").read_text().splitlines()]
    assert [event["metrics"]["anchor"] for event in logged if event["event"] == "step"] == pytest.approx(told)


def test_rows_are_weighed_once_and_the_run_resumes_to_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "whole", model, HELD)
    run(path, tmp_path / "whole/out", [], (), lambda event: None)
    kept = load_file(stage(tmp_path / "whole/out") / "importance/importance.safetensors")
    assert all(bool((tensor >= 0).all()) for tensor in kept.values())
    assert any(bool(tensor.any()) for tensor in kept.values())

    path = write(tmp_path / "cut", model, HELD)

    with pytest.raises(Interrupted):
        run(path, tmp_path / "cut/out", [], (), stop_at(2))
    calls: list[int] = []
    inner = ewc.importance
    monkeypatch.setattr(ewc, "importance", lambda *given: calls.append(1) or inner(*given))
    run(path, tmp_path / "cut/out", [], (), lambda event: None)
    assert not calls
    one, two = (load_file(tmp_path / name / "out/model/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())


def test_a_damaged_file_is_made_again(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path, model, HELD)

    with pytest.raises(Interrupted):
        run(path, tmp_path / "out", [], (), stop_at(2))
    file = stage(tmp_path / "out") / "importance/importance.safetensors"
    before = file.read_bytes()
    file.write_bytes(before[:-4] + b"\x00\x00\x00\x7f")
    run(path, tmp_path / "out", [], (), lambda event: None)
    assert file.read_bytes() == before


def test_other_rows_are_another_run(model: Path, tmp_path: Path) -> None:
    path = write(tmp_path, model, HELD)

    with pytest.raises(Interrupted):
        run(path, tmp_path / "out", [], (), stop_at(2))
    job.write_rows(tmp_path / "earlier.jsonl", [{"prompt": "a b c", "completion": "d"}])
    with pytest.raises(RunError, match=r"F120.*earlier\.jsonl"):
        run(path, tmp_path / "out", [], (), lambda event: None)


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "D113"), ("", "D1"), ('{"prompt": 3}\n', "D1"), ('{"text": "x"}\n{"prompt": "a", "chosen": "b"}\n', "D1")],
)
def test_faulty_rows_are_named_before_training(content: str | None, code: str, model: Path, tmp_path: Path) -> None:
    path = write(tmp_path, model, HELD)
    (tmp_path / "earlier.jsonl").unlink()
    if content is not None:
        (tmp_path / "earlier.jsonl").write_text(content)
    with pytest.raises(InputError, match=code):
        check(path, [], lambda event: None)


def test_adapters_are_held_too(model: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    run(write(tmp_path, model, HELD, "lora"), tmp_path / "out", [], (), events.append)
    kept = load_file(stage(tmp_path / "out") / "importance/importance.safetensors")
    assert all(bool(t.any()) == (".lora_B." in name) for name, t in kept.items()), "B is zero, so A has no gradient yet"
    assert [event.metrics["anchor"] for event in events if isinstance(event, Stepped)][-1] > 0


def test_it_is_said_where_a_model_tells_no_likelihood(model: Path, tmp_path: Path) -> None:
    material: Any = SimpleNamespace(loaded=load(write(tmp_path, model, HELD), []))
    policy: Any = SimpleNamespace(kind="encoder", head=None)
    weights: Any = None
    with pytest.raises(ModelError, match="M196"):
        anchored(material, policy, weights, tmp_path, ALONE)
