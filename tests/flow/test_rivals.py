"""A run against any number of models on the same rows: its base, examples, texts found, another model, another system's answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import job
import pytest
from job import Done, finish

from sartor.data.rows import Example, Message, Origin
from sartor.errors import DataError, ModelError, RecipeError
from sartor.evaluate.outcomes import read_outcomes
from sartor.flow.rivals import with_texts
from sartor.flow.run import run
from sartor.flow.shots import best_count
from sartor.recipe.load import parse

AGAINST: list[Any] = [
    "base",
    "few_shot",
    "retrieval",
    {"retrieval": {"documents": "docs.jsonl", "k": 2}, "name": "manual"},
    {"model": "other"},
    {"predictions": "answers.jsonl", "name": "clerk"},
]
NAMES = ["base", "few_shot", "retrieval", "manual", "other", "clerk"]


def quiet(event: object) -> None:
    """Shows nothing."""


def beside(folder: Path) -> None:
    """What the recipe names."""
    job.save_model(folder / "other", seed=5)
    answers = [{"prompt": row["prompt"], "prediction": row["completion"]} for row in job.orders()]
    job.write_rows(folder / "answers.jsonl", answers)
    job.write_rows(folder / "docs.jsonl", [{"text": f"{thing} are sold by the piece"} for thing in job.THINGS])


@pytest.fixture(scope="module")
def many(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("rivals")
    beside(folder)
    evaluate = {"against": AGAINST, "metrics": ["json_exact", "perplexity"], "shots": "auto"}
    goal = {"success": [{"metric": "json_exact", "better_than": "clerk"}]}
    return finish(folder, job.recipe(model, train={"steps": 2}, evaluate=evaluate, goal=goal))


def test_every_model_is_measured_on_the_same_rows(many: Done) -> None:
    kept = {path.stem: read_outcomes(path) for path in (many.folder / "predictions").glob("*.jsonl")}
    assert sorted(kept) == sorted([*NAMES, "tuned"])
    assert len({tuple(outcome.id for outcome in outcomes) for outcomes in kept.values()}) == 1
    comparison = many.ran.comparison
    assert comparison["models"] == [*NAMES, "tuned"]
    exact, perplexity = comparison["metrics"]
    assert exact["scores"]["clerk"]["value"] == 1.0
    assert set(exact["differences"]) == set(NAMES)
    assert "clerk" not in perplexity["scores"]
    assert set(perplexity["differences"]) == set(NAMES) - {"clerk"}
    assert perplexity["scores"]["other"]["value"] != perplexity["scores"]["base"]["value"]


def test_a_gate_may_name_any_of_them(many: Done) -> None:
    (gate,) = many.ran.verdict["gates"]
    assert gate["rule"] == "better_than clerk"
    assert not gate["pass"]
    assert "worse than clerk" in gate["note"]


def test_texts_stand_before_the_question(many: Done) -> None:
    for name, wanted in (("retrieval", '"item"'), ("manual", "are sold by the piece")):
        for outcome in read_outcomes(many.folder / "predictions" / f"{name}.jsonl"):
            assert outcome.prompt.startswith("Context:")
            assert wanted in outcome.prompt
    held_out = {outcome.id: outcome.prompt for outcome in read_outcomes(many.folder / "predictions" / "base.jsonl")}
    for outcome in read_outcomes(many.folder / "predictions" / "retrieval.jsonl"):
        before, _, question = outcome.prompt.rpartition("\n\n---\n\n")
        assert question == held_out[outcome.id]
        assert not any(other in before for other in held_out.values())


def test_the_number_of_examples_is_chosen_on_validation_rows(many: Done) -> None:
    told = json.loads((many.folder / "shots.json").read_text())
    assert told["rows"] >= 10
    assert set(told["scores"]) <= {"0", "1", "2", "3", "5"}
    assert str(told["chosen"]) in told["scores"]
    assert told["scores"][str(told["chosen"])] == max(told["scores"].values())
    resolved = parse((many.folder / "resolved.yaml").read_text()).recipe.evaluate
    assert resolved.shots == told["chosen"]
    assert resolved.names == tuple(NAMES)
    assert any(event.kind == "note" and event.code == "E121" for event in many.events)


def test_a_finished_part_is_not_measured_again(many: Done, tmp_path: Path) -> None:
    assert many.again().verdict["gates"] == many.ran.verdict["gates"]


def test_the_fewest_of_equals_is_chosen() -> None:
    from sartor import registry

    higher = registry.component("metric", "exact_match").METRIC
    lower = registry.component("metric", "perplexity").METRIC
    scores = {0: 0.5, 1: 0.7, 2: 0.7, 5: float("nan")}
    assert best_count(scores, higher) == 1
    assert best_count(scores, lower) == 0
    assert best_count({0: float("nan"), 3: float("nan")}, higher) == 3


def test_texts_go_into_the_last_question() -> None:
    turns = (Message("system", "S"), Message("user", "A"), Message("assistant", "B"), Message("user", "C"))
    row = Example(origin=Origin("x", 1), messages=(*turns, Message("assistant", "D")))
    shown = with_texts(row, ["one", "two"])
    assert [message.content for message in shown.messages[:3]] == ["S", "A", "B"]
    assert shown.messages[3].content == "Context:\n\none\n\n---\n\ntwo\n\n---\n\nC"
    assert with_texts(row, []) == row
    assert with_texts(replace(row, id="k"), ["one"]).id == "k"


@pytest.mark.parametrize(
    ("against", "error", "wanted"),
    [
        ([{"model": "nowhere"}], ModelError, "nowhere"),
        ([{"predictions": "docs.jsonl"}], DataError, "without prediction"),
        ([{"predictions": "few.jsonl"}], DataError, "have no prediction here"),
        ([{"retrieval": {"documents": "none.jsonl"}}], DataError, "none.jsonl"),
        ([{"model": "a", "predictions": "b"}], RecipeError, "exactly one of"),
    ],
)
def test_what_cannot_be_compared_is_told_before_anything_is_written(
    model: Path, tmp_path: Path, against: list[Any], error: type[Exception], wanted: str
) -> None:
    beside(tmp_path)
    job.write_rows(tmp_path / "few.jsonl", [{"id": "orders.jsonl:1", "prediction": "x"}])
    recipe = job.write(tmp_path, job.recipe(model, evaluate={"against": ["base", *against]}))
    with pytest.raises(error, match=wanted):
        run(recipe, tmp_path / "out", (), (), quiet)
    assert not (tmp_path / "out").exists()


def test_a_gate_on_a_model_that_is_not_compared_is_told(model: Path, tmp_path: Path) -> None:
    goal = {"success": [{"metric": "json_valid", "better_than": "clerk"}]}
    recipe = job.write(tmp_path, job.recipe(model, goal=goal))
    with pytest.raises(RecipeError, match="needs clerk, which"):
        run(recipe, tmp_path / "out", (), (), quiet)


def test_texts_are_refused_where_there_is_no_question(model: Path, tmp_path: Path) -> None:
    body = job.recipe(
        model, goal={"task": "pretrain"}, evaluate={"against": ["base", "retrieval"], "metrics": ["perplexity"]}
    )
    recipe = job.write(tmp_path, body, job.texts())
    with pytest.raises(RecipeError, match="puts texts before a question"):
        run(recipe, tmp_path / "out", (), (), quiet)
