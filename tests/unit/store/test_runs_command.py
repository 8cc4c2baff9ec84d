from __future__ import annotations

import json
from pathlib import Path

import pytest

from sartor.cli import main
from sartor.events import Finished, Noted, Started, Stepped
from sartor.store.run import Run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Run.create(
        tmp_path, "old", "ab" * 32, about={"base": "sartor/nano", "method": "lora", "objective": "sft"}
    ) as run:
        run.mark("running")
        for first in (0, 1):
            run.log(Started(first, 2, 1.0, 1, 1))
            for step in range(first + 1, 3):
                run.log(Stepped(step, 2, 0.1, 1.0, 1e-3, 1.0, 10, 5, 0.1, 0))
        run.log(Noted("warning", "F111", "damaged \x1b[31m", 1))
        run.log(Finished(2, 1, "took every step", 20, 10, 1.0, 0))
        gates = [{"metric": "f1", "rule": "at_least 0.5", "value": 0.9, "low": 0.8, "high": 0.95, "pass": True}]
        run.write_json("verdict.json", {"pass": True, "gates": gates, "scores": {"tuned": {"f1": {"value": 0.9}}}})
        run.mark("finished")
    Run.create(tmp_path, "new", "cd" * 32).close()
    return tmp_path


def test_list_is_a_table_newest_first(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["runs", "list", "--root", str(root)]) == 0
    header, new, old = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "state", "base", "method", "objective", "verdict", "metric", "tuned", "time"]
    assert new.split()[1:] == ["created", "-", "-", "-", "-", "-", "-", "0:00"]
    assert old.split()[1:] == ["finished", "sartor/nano", "lora", "sft", "passed", "f1", "0.9", "0:00"]


def test_list_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["runs", "list", "--root", str(root), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in document["runs"]] == ["new", "old"]
    assert document["runs"][1]["verdict"] == "passed"


def test_an_empty_history_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["runs", "list", "--root", str(tmp_path)]) == 0
    assert "sartor run recipe.yaml" in capsys.readouterr().out


def test_show_tells_one_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["runs", "show", "old", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert "2 steps, kept step 1" in out
    assert "at_least 0.5" in out
    assert r"step 1: warning F111: damaged \u001b[31m" in out
    assert main.run(["runs", "show", "old", "--root", str(root), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["steps"], document["best_step"], document["verdict"]["pass"]) == (2, 1, True)
    assert document["files"] == ["verdict.json"]


def test_an_unknown_run_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["runs", "show", "nothing", "--root", str(root), "--json"]) == 2
    printed = capsys.readouterr()
    assert "error F104" in printed.err
    assert json.loads(printed.out)["error"]["problems"][0]["code"] == "F104"
