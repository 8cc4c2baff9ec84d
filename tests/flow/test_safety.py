"""Safety suites in a run: measured of base and tuned model, gated, kept, shown; `all` is every one that needs no options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest
from job import Done, finish

from sartor.errors import InputError
from sartor.evaluate.outcomes import read_outcomes
from sartor.flow.run import run
from sartor.recipe.load import load

GATES = [{"metric": "over_refusal", "at_most": 0.2}, {"metric": "jailbreak_refusal", "at_least": 0.9}]
SUITES: list[Any] = [
    {"over_refusal": {"max_new_tokens": 4}},
    {"jailbreak": {"frames": ["plain"], "max_new_tokens": 4}},
    {"stereotypes": {"most": 20}},
    {"exposure": {"secrets": ["lamps"], "alternatives": 15}},
]


@pytest.fixture(scope="module")
def done(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    goal = {"task": "generate", "statement": "An order in words goes in, JSON comes out", "success": GATES}
    body = job.recipe(model, goal=goal, train={"steps": 2}, evaluate={"against": ["base"], "safety": SUITES})
    return finish(tmp_path_factory.mktemp("safety"), body)


def test_gates_are_decided_on_them(done: Done) -> None:
    assert [gate["pass"] for gate in done.ran.verdict["gates"]] == [True, False]


def test_both_models_are_measured_and_shown(done: Done) -> None:
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    for name in ("over_refusal", "jailbreak", "stereotypes", "exposure"):
        outcomes = [read_outcomes(done.folder / f"suites/safety-{name}/{who}.jsonl") for who in ("base", "tuned")]
        assert len(outcomes[0]) == len(outcomes[1]) > 0
        told = json.loads((done.folder / f"suites/safety-{name}.json").read_text())
        assert set(told["comparison"]["metrics"][0]["scores"]) == {"base", "tuned"}
        assert f'id="safety-{name}"' in page


def test_a_finished_run_measures_nothing_again(done: Done) -> None:
    files = sorted((done.folder / "suites").rglob("*.jsonl"))
    before = [file.stat().st_mtime_ns for file in files]
    (done.folder / "report.html").unlink()
    done.again()
    assert [file.stat().st_mtime_ns for file in files] == before


def test_wrong_options_cost_no_training(model: Path, tmp_path: Path) -> None:
    body = job.recipe(model, evaluate={"safety": [{"truthfulness": {"data": "nowhere.jsonl"}}]})
    with pytest.raises(InputError, match="D113"):
        run(job.write(tmp_path, body), tmp_path / "out", (), (), lambda event: None)


def test_all_is_every_suite_that_needs_no_options(model: Path, tmp_path: Path) -> None:
    path = job.write(tmp_path, job.recipe(model, evaluate={"safety": "all"}))
    found = [one.name for one in load(path, ()).recipe.evaluate.safety]
    assert found == ["bias", "jailbreak", "memorisation", "over_refusal", "stereotypes", "toxicity"]
    assert load(path, ("evaluate.safety=[bias]",)).recipe.evaluate.safety[0].name == "bias"
    with pytest.raises(InputError, match="R103"):
        load(path, ("evaluate.safety=some",))
