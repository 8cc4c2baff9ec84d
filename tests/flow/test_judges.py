"""Judges in a run: gates on them, what is kept, and that a run which was stopped asks nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import job
import judging
import pytest
from job import finish
from judging import Server, serving

from sartor.errors import ModelError
from sartor.flow.run import run


def recipe(model: Path, server: Server, **changes: Any) -> dict[str, Any]:
    asked = {"model": "fake", "endpoint": server.url, "rows": 5}
    judges = [{"rubric": asked | {"rubrics": ["accuracy", "tone"]}}, {"pairwise": asked}]
    evaluate = {"metrics": ["exact_match"], "judge": judges, "general": False, "against": ["base", "few_shot"]}
    gates = [{"metric": "judge_accuracy", "at_least": 1.0}, {"metric": "win_rate", "at_most": 1.0}]
    return (
        job.recipe(model, evaluate=evaluate, goal={"task": "generate", "success": gates}, train={"steps": 2}) | changes
    )


def test_judges_are_part_of_the_verdict(model: Path, tmp_path: Path) -> None:
    with serving(judging.fair) as server:
        done = finish(tmp_path, recipe(model, server))
        asked = Counter(server.asked)
        assert max(asked.values()) == 1
    folder = done.folder
    told = {
        name: json.loads((folder / "suites" / f"{name}.json").read_text())
        for name in ("judge-rubric", "judge-pairwise")
    }
    rubric, pairs = (told[name]["comparison"] for name in told)
    assert [metric["name"] for metric in rubric["metrics"]] == ["judge_accuracy", "judge_tone"]
    assert set(rubric["metrics"][0]["scores"]) == {"base", "tuned"}
    assert rubric["rows"] == 5
    names = [metric["name"] for metric in pairs["metrics"]]
    assert names[0] == "win_rate"
    assert "win_rate_few_shot" in names
    assert set(pairs["metrics"][0]["scores"]) == {"tuned"}
    prompts = json.loads((folder / "answers" / "judge-rubric" / "prompts.json").read_text())["prompts"]
    assert all(prompt["instruction"] in "".join(asked) and len(prompt["sha256"]) == 64 for prompt in prompts)
    verdict = json.loads((folder / "verdict.json").read_text())
    assert {gate["metric"]: gate["pass"] for gate in verdict["gates"]} == {"judge_accuracy": True, "win_rate": True}
    page = (folder / "report.html").read_text()
    for words in (
        "By a judge",
        "Against each other, by a judge",
        "is unknown",
        "order and length",
        "Scores for accuracy",
    ):
        assert words in page


def test_a_run_that_the_judge_stopped_goes_on_and_asks_nothing_twice(model: Path, tmp_path: Path) -> None:
    with serving(judging.fair) as server:
        server.trouble = [(200, 0.0)] * 7 + [(401, 0.0)] * 9
        with pytest.raises(ModelError, match="M171"):
            finish(tmp_path, recipe(model, server))
        before = len(server.asked)
        assert before >= 4
        server.trouble = []
        run(tmp_path / "recipe.yaml", tmp_path / "out", (), (), lambda event: None)
        assert max(Counter(server.asked).values()) == 1
        assert len(server.asked) > before
