from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sartor import registry
from sartor.errors import RecipeError
from sartor.recipe.auto import Resolution
from sartor.recipe.load import parse
from sartor.recipe.schema import Component, Recipe

TEXT = """\
base: sartor/nano
data: [a.jsonl, {path: "b: c.jsonl", map: {prompt: "q, x"}}]
goal:
  statement: 'text in, "JSON" out # not a comment'
  success:
    - {metric: bleu, at_least: 30}
    - {metric: "m.py:f", better_than: base}
method: {lora: {rank: 8}}
train: {epochs: auto}
"""


def resolution(*overrides: str, text: str = TEXT) -> Resolution:
    return Resolution(parse(text, "recipe.yaml", overrides))


def test_every_value_has_a_reason() -> None:
    found = resolution("train.dropout=0.1").json()
    assert found["method.lora.rank"] == {"value": 8, "why": "set in recipe.yaml:8"}
    assert found["method"] == {"value": "lora", "why": "set in recipe.yaml:8"}
    assert found["data.sources[1].path"] == {"value": "b: c.jsonl", "why": "set in recipe.yaml:2"}
    assert found["train.dropout"] == {"value": 0.1, "why": "set by override 1: train.dropout=0.1"}
    assert found["seed"]["why"].startswith("default: Seed of every random stream")
    assert found["train.schedule.cosine.floor"]["value"] == 0.1
    assert found["evaluate.against"]["value"] == ["base", "few_shot"]
    assert all(entry["why"] for entry in found.values())


def test_a_decision_replaces_auto_and_keeps_its_place() -> None:
    made = resolution()
    before = list(made.json())
    assert {"train.epochs", "base.dtype", "train.batch"} <= set(made.undecided())
    made.decide("train.epochs", 3.0, "about 600 steps")
    made.decide("base.dtype", "float32", "no bfloat16 here")
    assert made["train.epochs"] == 3.0
    assert made.json()["base.dtype"] == {"value": "float32", "why": "no bfloat16 here"}
    assert list(made.json()) == before
    assert not {"train.epochs", "base.dtype"} & set(made.undecided())


def test_a_component_brings_the_defaults_of_its_options() -> None:
    made = resolution()
    made.decide("train.optimizer", "adamw", "the usual choice")
    made.decide("train.optimizer.adamw.learning_rate", 1e-3, "by size")
    found = made.json()
    assert found["train.optimizer"] == {"value": "adamw", "why": "the usual choice"}
    assert found["train.optimizer.adamw.learning_rate"] == {"value": 1e-3, "why": "by size"}
    assert found["train.optimizer.adamw.betas"]["why"].startswith("default: ")
    recipe = made.recipe()
    assert isinstance(recipe.train.optimizer, Component)
    assert recipe.train.optimizer.options.model_dump()["learning_rate"] == 1e-3


def test_a_component_can_be_given_with_options() -> None:
    made = resolution()
    options = registry.component("schedule", "linear").Options(warmup=0.2)
    made.decide("train.schedule", Component(name="linear", options=options), "short runs")
    assert made.json()["train.schedule.linear.warmup"] == {"value": 0.2, "why": "short runs"}
    assert made.json()["train.schedule.linear.floor"]["why"].startswith("default")
    assert "train.schedule.cosine.floor" not in made.json()


def test_an_option_decides_the_component_above_it() -> None:
    made = resolution()
    made.decide("train.optimizer.sgd.momentum", 0.5, "a rule")
    assert made["train.optimizer"] == "sgd"
    assert made["train.optimizer.sgd.nesterov"] is False
    with pytest.raises(ValueError, match=r"train\.optimizer is sgd, not adamw"):
        made.decide("train.optimizer.adamw.eps", 1e-9, "a rule")


def test_a_component_that_is_replaced_takes_its_options_along() -> None:
    made = resolution()
    made.decide("method", "full", "the model is small")
    assert "method.lora.rank" not in made.json()
    assert made.json()["method"]["why"] == "the model is small (recipe.yaml:8 asks for lora)"
    assert made.recipe().method.name == "full"


@pytest.mark.parametrize(("key", "value"), [("train.batch", {"tokens": 8192}), ("train.batch.tokens", 8192)])
def test_a_section_is_decided_whole_or_by_its_keys(key: str, value: Any) -> None:
    made = resolution()
    made.decide(key, value, "documents differ in length")
    assert "train.batch" not in made.json()
    assert made["train.batch.tokens"] == 8192
    keys = list(made.json())
    assert keys.index("train.steps") < keys.index("train.batch.tokens") < keys.index("train.micro_batch_tokens")
    assert made.recipe().train.batch.tokens == 8192  # type: ignore[union-attr]


def test_going_against_the_user_is_said() -> None:
    made = resolution()
    made.decide("method.lora.rank", 4, "memory")
    assert made.json()["method.lora.rank"] == {"value": 4, "why": "memory (recipe.yaml:8 asks for 8)"}


def test_a_key_that_does_not_exist_cannot_be_decided() -> None:
    for key in ("train.epoch", "steps", "data.sources[0].pth", "data.sources[9].path", "", "a..b"):
        with pytest.raises(ValueError, match="no key"):
            resolution().decide(key, 1, "a rule")


def test_the_resolved_recipe_loads_and_says_the_same() -> None:
    made = resolution()
    made.decide("train.objective", "sft", "the task\nis chat")
    made.decide("train.batch", {"examples": 16}, "16 to 64 suit")
    made.decide("train.optimizer", "adamw", "usual")
    made.decide("train.optimizer.adamw.learning_rate", 2e-5, "by size")
    made.decide("train.stop.on", "perplexity", "a rule")
    made.note("steps", 189, "3 epochs of 63")
    text = made.to_yaml()
    assert parse(text).recipe == made.recipe()
    assert Recipe.model_validate(yaml.safe_load(text)) == made.recipe()
    lines = text.splitlines()
    assert "    rank: 8  # set in recipe.yaml:8" in lines
    assert "  objective:  # the task is chat" in lines
    assert "      learning_rate: 2.0e-05  # by size" in lines
    assert lines[-1] == "# steps: 189  3 epochs of 63"
    assert sum("  # " in line for line in lines[1:-1]) == len(made.json()) - 1


@given(st.text(min_size=1), st.text(max_size=40), st.dictionaries(st.text(), st.text(), max_size=3))
def test_any_text_survives_the_resolved_recipe(path: str, why: str, columns: dict[str, str]) -> None:
    made = resolution()
    made.decide("data.sources[0].path", path, why)
    made.decide("data.sources[0].map", columns, why)
    again = yaml.safe_load(made.to_yaml())
    assert again["data"]["sources"][0]["path"] == path
    assert again["data"]["sources"][0]["map"] == columns


def test_why_answers_for_a_key_its_end_or_a_section() -> None:
    made = resolution()
    made.note("steps", 189, "3 epochs of 63")
    assert str(made.why("method.lora.rank")) == "method.lora.rank: 8\n  set in recipe.yaml:8"
    assert made.why("rank").json() == {"method.lora.rank": {"value": 8, "why": "set in recipe.yaml:8"}}
    assert list(made.why("train.stop").json()) == [
        "train.stop.on",
        "train.stop.patience",
        "train.stop.min_delta",
        "train.stop.forgetting",
    ]
    assert next(iter(made.why("data.sources[1]").json())) == "data.sources[1].path"
    assert list(made.why("seed").json()) == ["seed"]
    assert made.why("steps").json()["steps"]["why"] == "3 epochs of 63"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("train.epoch", 'did you mean "train.epochs"'),
        ("patiense", 'did you mean "train.stop.patience"'),
        ("metric", "is the end of several keys: goal.success"),
        ("zzzzzz", "the recipe has no key"),
    ],
)
def test_why_names_the_nearest_key(key: str, says: str) -> None:
    with pytest.raises(RecipeError, match="R102") as caught:
        resolution().why(key)
    assert says in str(caught.value)
