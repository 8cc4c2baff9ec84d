"""Metrics with options: what each does, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import measured
import pytest

import sartor
from sartor.errors import InputError, RecipeError
from sartor.evaluate.compare import compare
from sartor.evaluate.metrics import load
from sartor.protocols import Detailed, Outcome
from sartor.recipe.auto import Resolution
from sartor.recipe.load import parse

START = "base: sartor/nano\ndata: a.jsonl\n"


def scores(name: str, options: dict[str, Any], *answers: str, reference: str = "") -> list[float]:
    judge = measured.made(name, options)
    rows = [Outcome(str(i), "", reference, answer) for i, answer in enumerate(answers)]
    return list(judge.stats(rows)[:, 0].tolist())


def refused(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse(START + text)
    return str(caught.value)


def test_a_pattern_is_searched_for() -> None:
    assert scores("regex", {"pattern": "b+"}, "abc", "xyz") == [1, 0]
    assert scores("regex", {"pattern": "b+", "wanted": False}, "abc", "xyz") == [0, 1]
    assert scores("regex", {"pattern": "B", "ignore_case": True}, "abc", "xyz") == [1, 0]
    assert scores("regex", {"pattern": "^b$"}, " b\n", "abc") == [1, 0]


def test_a_pattern_that_runs_away_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sartor.metrics.regex.SECONDS", 0.1)
    with pytest.raises(InputError, match="E107"):
        scores("regex", {"pattern": "(a|aa)+$"}, "a" * 60 + "!")


def test_filler_counts_where_the_reference_has_none() -> None:
    assert scores("chatty_prefix", {}, "Sure! 42", "42", reference="42") == [1, 0]
    assert scores("chatty_prefix", {}, "Sure! 42", reference="Sure, it is 42") == [0]
    told = ('{"a": 2}', '```json\n{"a": 2}\n```', 'The result {"a": 2}', "no result")
    assert scores("chatty_prefix", {}, *told, reference='{"a": 1}') == [0, 0, 1, 0]


def test_refusals_are_good_where_they_are_wanted() -> None:
    assert not measured.made("refusal", {}).higher_is_better
    assert measured.made("refusal", {"wanted": True}).higher_is_better
    assert scores("refusal", {}, "I can't help with that.", "Gladly: 42") == [1, 0]


def test_a_schema_is_read_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "required": ["a"]}))
    recipe = parse(START + "evaluate: {metrics: [{json_schema: {file: schema.json}}]}").recipe
    assert recipe.evaluate.metrics != "auto"
    (judge,) = load(recipe.evaluate.metrics, tmp_path)
    rows = [Outcome("1", "", "", '{"a": 1}'), Outcome("2", "", "", '{"b": 1}'), Outcome("3", "", "", "a")]
    assert judge.stats(rows)[:, 0].tolist() == [1, 0, 0]
    assert isinstance(judge, Detailed)
    (table,) = judge.details(rows, 0.95)
    assert table.rows == (("2", "$", "'a' is a required property"), ("3", "", "no JSON"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("{", "schema.json:1: error E106: This is no JSON"),
        ('{"type": "objekt"}', "this is no JSON schema"),
    ],
)
def test_a_schema_that_is_none_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "schema.json").write_text(content)
    recipe = parse(START + "evaluate: {metrics: [{json_schema: {file: schema.json}}]}").recipe
    assert recipe.evaluate.metrics != "auto"
    with pytest.raises(RecipeError) as caught:
        load(recipe.evaluate.metrics, tmp_path)
    assert "E106" in str(caught.value)
    assert said.lower() in str(caught.value).lower()


def test_a_schema_asks_no_other_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("it asked"))
    judge = measured.made("json_schema", {"inline": {"$ref": "http://127.0.0.1:9/schema.json"}})
    with pytest.raises(InputError, match="refers to something that it does not hold"):
        judge.stats([Outcome("1", "", "", "1")])


def test_options_are_checked_where_they_are_written() -> None:
    assert "recipe:3:31" in refused("evaluate: {metrics: [{regex: {patern: a}}]}")
    assert 'did you mean "pattern"?' in refused("evaluate: {metrics: [{regex: {patern: a}}]}")
    assert "no regular expression" in refused('evaluate: {metrics: [{regex: {pattern: "("}}]}')
    assert '"evaluate.metrics[0].regex.pattern" is missing' in refused("evaluate: {metrics: [regex]}")
    assert "either file or inline" in refused("evaluate: {metrics: [json_schema]}")
    assert "R105" in refused("evaluate: {metrics: [{rejex: {pattern: a}}]}")
    assert "has no settings" in refused("evaluate: {metrics: [{'m.py:f': {a: 1}}]}")
    assert "R103" in refused("train: {stop: {on: {edit_distance: {unit: line}}}}")


def test_an_option_can_be_overridden() -> None:
    recipe = parse(
        START + "evaluate: {metrics: [{regex: {pattern: a}}]}", overrides=["evaluate.metrics[0].regex.pattern=b"]
    )
    assert recipe.recipe.evaluate.metrics[0].options.pattern == "b"  # type: ignore[union-attr]


def test_a_bare_name_means_the_metric_with_its_options() -> None:
    wanted = parse(START + "evaluate: {metrics: [{edit_distance: {unit: word}}, bleu]}").recipe.evaluate.metrics
    assert wanted != "auto"
    found = load([*wanted, "edit_distance", "bleu"], Path())
    assert [metric.name for metric in found] == ["edit_distance", "bleu"]
    row = Outcome("1", "", "one two", "one too")
    assert found[0].stats([row]).tolist() == [[1, 2]]
    assert load(["edit_distance"], Path())[0].stats([row]).tolist() == [[1, 7]]


def test_a_metric_has_one_set_of_options() -> None:
    twice = parse(START + "evaluate: {metrics: [{regex: {pattern: a}}, {regex: {pattern: b}}]}").recipe.evaluate.metrics
    assert twice != "auto"
    with pytest.raises(RecipeError, match="R149"):
        load(twice, Path())
    with pytest.raises(RecipeError, match="R149: regex needs pattern"):
        load(["regex"], Path())


def test_the_resolved_recipe_holds_metrics_and_stages_with_options() -> None:
    written = START + (
        "evaluate: {metrics: [bleu, 'm.py:f', {regex: {pattern: a}}]}\n"
        "train: {stop: {on: {edit_distance: {unit: word}}}}\n"
    )
    loaded = parse(written, overrides=["data.clean=[whitespace, {length: {unit: words}}]"])
    again = parse(Resolution(loaded).to_yaml()).recipe
    assert again.evaluate.metrics == loaded.recipe.evaluate.metrics
    assert again.train.stop == loaded.recipe.train.stop
    assert again.data.clean == loaded.recipe.data.clean


def test_a_decorated_function_is_a_metric(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sartor import metric\n\n\n"
        "@metric\ndef same(prediction, reference):\n    return prediction == reference\n\n\n"
        "@metric(higher_is_better=False, judges='label')\ndef other(prediction, reference):\n    return prediction != reference\n"
    )
    same, other = load(["mine.py:same", "mine.py:other"], tmp_path)
    row = Outcome("1", "", "a", "b", label="a")
    assert (same.needs, same.higher_is_better, same.stats([row])[0, 0]) == ("prediction", True, 0)
    assert (other.needs, other.higher_is_better, other.stats([row])[0, 0]) == ("label", False, 0)

    def plain(prediction: str, reference: str) -> float:
        return 2.0

    assert sartor.metric(plain) is plain


def test_a_comparison_has_the_tables_of_each_model_once() -> None:
    models = {
        model: [Outcome(str(i), "", "ab"[i % 2], guess) for i in range(12)]
        for model, guess in (("base", "a"), ("tuned", "b"))
    }
    metrics = load(["macro_f1", "precision", "refusal", "accuracy"], Path())
    told = json.loads(json.dumps(compare(models, metrics, resamples=200).json()))["details"]
    assert [(table["metric"], table["title"]) for table in told] == [
        ("macro_f1", "Each label by itself"),
        ("macro_f1", "Labels taken for each other"),
    ]
    assert {model: found["rows"][0][1:] for model, found in told[1]["models"].items()} == {
        "base": [6, 0, 0], "tuned": [0, 6, 0],
    }  # fmt: skip
