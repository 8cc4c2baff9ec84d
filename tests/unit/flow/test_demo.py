"""`sartor demo`: writes a valid recipe with its data, runs it beside them, never over something of the user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sartor import embedded
from sartor.cli.main import run
from sartor.errors import ModelError, RunError
from sartor.flow import demo as flow
from sartor.flow.run import Ran
from sartor.recipe.load import load

COMPARISON = {"rows": 1, "small": True, "confidence": 0.95, "models": ["base", "tuned"], "subject": "tuned",
              "metrics": [], "flips": None}  # fmt: skip


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Calls of a stand-in for the run, which takes minutes."""
    calls: list[tuple] = []

    def run_(path, out, overrides, allow, emit) -> Ran:
        calls.append((path, out, tuple(overrides), tuple(allow)))
        return Ran(out, {"pass": len(calls) < 3, "gates": [], "scores": {}, "sentence": "Better."}, COMPARISON)

    monkeypatch.setattr(flow, "run", run_)
    monkeypatch.setattr(embedded, "nano", lambda: tmp_path)
    return calls


def test_recipe_and_data_are_written_and_run(asked: list[tuple], tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = flow.demo(out, lambda event: None)
    assert asked == [(out / "recipe.yaml", out / "run", (), ())]
    assert (out / "tickets.jsonl").read_bytes() == embedded.demo_data().read_bytes()
    recipe = load(out / "recipe.yaml", ()).recipe
    assert recipe.base.model == "sartor/nano"
    assert {gate.metric for gate in recipe.goal.success} == {"json_valid", "field_f1"}
    assert result.json()["recipe"] == str(out / "recipe.yaml")
    flow.demo(out, lambda event: None)
    assert len(asked) == 2


@pytest.mark.parametrize("name", ["recipe.yaml", "tickets.jsonl"])
def test_changed_files_are_left_alone(name: str, asked: list[tuple], tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=f"{name}: error F143"):
        flow.demo(tmp_path, lambda event: None)
    assert (tmp_path / name).read_text() == "mine"
    assert asked == []


def test_missing_weights_are_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "HERE", tmp_path / "nowhere")
    with pytest.raises(ModelError, match="M104"):
        flow.demo(tmp_path / "demo", lambda event: None)
    assert not (tmp_path / "demo").exists()


def test_command(asked: list[tuple], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--out", str(tmp_path / "demo"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(tmp_path / "demo/run")
    assert run(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert "sartor chat" in capsys.readouterr().out
    assert run(["demo", "--out", str(tmp_path / "demo")]) == 1
