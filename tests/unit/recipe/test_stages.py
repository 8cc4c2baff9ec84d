"""A recipe whose `train` is a list becomes a recipe for each stage."""

from __future__ import annotations

import pytest

from sartor.errors import RecipeError
from sartor.recipe.load import Loaded, parse

THREE = """\
base: sartor/nano
data: tickets.jsonl
goal: {statement: Answer support tickets as JSON, success: [{metric: exact_match, better_than: base}]}
method: full
train:
  - {objective: sft, epochs: 2}
  - {objective: pretrain, data: notes.txt, method: lora}
  - {prompts: asked.jsonl, steps: 300}
"""


def paths(loaded: Loaded) -> list[str]:
    return [stage.recipe.data.sources[0].path for stage in loaded.stages]


def test_a_single_stage_is_the_recipe() -> None:
    loaded = parse("base: sartor/nano\ndata: a.jsonl\ntrain: {epochs: 2}\n")
    assert loaded.stages == (loaded,)
    assert not loaded.listed


def test_each_stage_takes_what_it_has_and_else_the_recipes() -> None:
    loaded = parse(THREE)
    assert paths(loaded) == ["tickets.jsonl", "notes.txt", "asked.jsonl"]
    assert [stage.recipe.method.name for stage in loaded.stages] == ["full", "lora", "full"]  # type: ignore[union-attr]
    assert [stage.recipe.train.steps for stage in loaded.stages] == [None, None, 300]
    assert [len(stage.recipe.goal.success) for stage in loaded.stages] == [1, 0, 0]
    assert loaded.recipe == loaded.stages[0].recipe
    assert loaded.stages[2].where("train.steps") == "recipe:8"


def test_the_verdict_is_about_the_recipes_own_rows() -> None:
    own = parse("base: sartor/nano\ndata: a.jsonl\ntrain: [{data: b.jsonl}, {data: c.jsonl}]\n")
    assert own.recipe.data.sources[0].path == "a.jsonl"
    assert paths(own) == ["b.jsonl", "c.jsonl"]
    last = parse("base: sartor/nano\ndata: a.jsonl\ntrain: [{epochs: 1}, {epochs: 2}, {data: c.jsonl}]\n")
    assert last.recipe.train.epochs == 2


def test_a_bare_name_is_an_objective() -> None:
    loaded = parse("base: sartor/nano\ndata: a.jsonl\ntrain: [sft]\n")
    assert loaded.recipe.train.objective.name == "sft"  # type: ignore[union-attr]


def test_overrides_go_to_one_stage_or_to_all() -> None:
    given = ("train[1].steps=9", "train.dropout=0.1", "train[2].data=other.jsonl", "data=mine.jsonl", "seed=3")
    loaded = parse(THREE, overrides=given)
    assert paths(loaded) == ["mine.jsonl", "notes.txt", "other.jsonl"]
    assert [stage.recipe.train.steps for stage in loaded.stages] == [None, 9, 300]
    assert {stage.recipe.train.dropout for stage in loaded.stages} == {0.1}
    assert {stage.recipe.seed for stage in loaded.stages} == {3}


@pytest.mark.parametrize(
    ("text", "overrides", "code", "said"),
    [
        ("train: []", (), "R103", "at least one stage"),
        ("train: [3]", (), "R103", "train[0] must be a mapping"),
        ("train: [{data: x.jsonl, prompts: y.jsonl}]", (), "R106", "both data and prompts"),
        ("train: [{epochs: 1}, {epoch: 2}]", (), "R102", "epochs"),
        ("train: [{epochs: 1}]", ("train[1].epochs=2",), "R103", "train has 1 stages; [1]"),
        ("train: {epochs: 1}", ("train[0].epochs=2",), "R103", "train is no list"),
    ],
)
def test_faults_are_named_once(text: str, overrides: tuple[str, ...], code: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(f"base: sartor/nano\ndata: a.jsonl\n{text}\n", overrides=overrides)
    assert [(problem.code, said in problem.what) for problem in caught.value.problems] == [(code, True)]
