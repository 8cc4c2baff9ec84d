from __future__ import annotations

import pytest

from sartor.errors import RecipeError
from sartor.recipe.load import parse
from sartor.recipe.schema import Component, Recipe

SMALL = "base: sartor/nano\ndata: file.jsonl\n"


def changed(*overrides: str, text: str = SMALL) -> Recipe:
    return parse(text, "recipe.yaml", overrides).recipe


def refused(*overrides: str, text: str = SMALL) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse(text, "recipe.yaml", overrides)
    return [str(problem) for problem in caught.value.problems]


def test_values_are_put_in_and_later_ones_win() -> None:
    recipe = changed("train.epochs=3", "train.epochs=4", "seed=0x10", "goal.task=chat", "train.clip_norm=1e-1")
    assert (recipe.train.epochs, recipe.seed, recipe.goal.task, recipe.train.clip_norm) == (4.0, 16, "chat", 0.1)


@pytest.mark.parametrize(
    "written", ["base: sartor/nano", "base: {model: sartor/nano}", "base: {model: sartor/nano, dtype: auto}"]
)
def test_a_shorthand_of_a_section_can_be_reached_into(written: str) -> None:
    assert changed("base.dtype=float32", text=f"{written}\ndata: a\n").base.model_dump() == {
        "model": "sartor/nano", "revision": None, "dtype": "float32", "template": None, "add_tokens": (),
    }  # fmt: skip


@pytest.mark.parametrize("written", ["", "method: lora\n", "method: {lora: {alpha: 3}}\n", "method: {lora: }\n"])
def test_a_shorthand_of_a_component_can_be_reached_into(written: str) -> None:
    method = changed("method.lora.rank=4", text=SMALL + written).method
    assert (method.name, method.options.model_dump()["rank"]) == ("lora", 4)
    if "alpha" in written:
        assert method.options.model_dump()["alpha"] == 3


@pytest.mark.parametrize(
    "written", ["file.jsonl", "[file.jsonl]", "{sources: [file.jsonl]}", "{sources: [{path: file.jsonl}]}"]
)
def test_a_shorthand_of_the_data_can_be_reached_into(written: str) -> None:
    data = changed("data.split.seed=3", "data.sources[0].format=messages", text=f"base: m\ndata: {written}\n").data
    assert (data.split.seed, data.sources[0].path, data.sources[0].format) == (3, "file.jsonl", "messages")


def test_shorthands_are_taken_as_values() -> None:
    recipe = changed("base=other", "data=[a, b]", "method=full", "goal=text in, JSON out", "train.optimizer=sgd")
    assert recipe.base.model == "other"
    assert [source.path for source in recipe.data.sources] == ["a", "b"]
    assert (recipe.method.name, recipe.goal.statement) == ("full", "text in, JSON out")
    assert isinstance(recipe.train.optimizer, Component)
    assert recipe.train.optimizer.name == "sgd"


def test_lists_grow_at_their_end_only() -> None:
    recipe = changed("data.sources[1]=b.jsonl", "data.sources[2].path=c.jsonl", "data.sources[0].path=a.jsonl")
    assert [source.path for source in recipe.data.sources] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert "data.sources has 1 entries; [3] does not exist" in refused("data.sources[3].path=d")[0]


def test_values_are_flow_yaml() -> None:
    recipe = changed("data.sources[0].map={prompt: q, completion: 'a: b'}", "train.batch={tokens: 512}", "name=a=b")
    assert recipe.data.sources[0].map == {"prompt": "q", "completion": "a: b"}
    assert recipe.train.batch != "auto"
    assert recipe.train.batch.tokens == 512
    assert recipe.name == "a=b"
    assert changed("data.sources[0].map.prompt=q").data.sources[0].map == {"prompt": "q"}


def test_auto_gives_way_to_what_is_set_below_it() -> None:
    recipe = changed(
        "train.batch.examples=8", "train.optimizer.sgd.momentum=0.5", text=SMALL + "train: {batch: auto}\n"
    )
    assert recipe.train.batch != "auto"
    assert recipe.train.batch.examples == 8
    assert isinstance(recipe.train.optimizer, Component)
    assert recipe.train.optimizer.options.model_dump()["momentum"] == 0.5


def test_nothing_after_the_sign_is_null() -> None:
    assert changed("base.revision=", text="base: {model: m, revision: x}\ndata: a\n").base.revision is None


def test_a_problem_names_the_override() -> None:
    assert refused("seed=1", "train.epochz=3") == [
        'override 2: train.epochz=3: error R102: unknown key "epochz"; did you mean "epochs"?'
    ]
    assert refused("train.epochs=many") == [
        'override 1: train.epochs=many: error R103: train.epochs must be a number above 0, or auto, not "many".'
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train.epochs", "R115"),
        ("=3", "R115"),
        ("a..b=3", "R115"),
        ("data.sources[x].path=a", "R115"),
        ("data.sources[-1].path=a", "R115"),
        ("", "R115"),
        ("train.epochs=[1", "R101"),
        ("name=!!python/object/apply:os.system [ls]", "R109"),
        ("name=&a b", "R109"),
        ("train={steps: 1, steps: 2}", "R108"),
        ("method.full.rank=3", "R102"),
        ("method.lroa.rank=3", "R102"),
        ("train[0].epochs=3", "R103: train is no list"),
        ("watch=gguf", "R107"),
        ("method=lroa", 'R105: unknown method "lroa"; did you mean "lora"'),
        ("train.steps=0", "R103"),
        ("data.sources=[]", "R103"),
    ],
)
def test_what_cannot_be_applied_is_refused_with_its_own_code(text: str, says: str) -> None:
    (problem,) = refused(text)
    assert problem.startswith(f"override 1: {text}")
    assert says in problem


def test_options_of_a_component_that_was_not_chosen_would_not_act() -> None:
    (problem,) = refused("method.lora.rank=3", text=SMALL + "method: full\n")
    assert "R106: the method is full, so method.lora would not act" in problem
    assert changed("method=lora", "method.lora.rank=3", text=SMALL + "method: full\n").method.name == "lora"


def test_faults_of_the_file_and_of_all_overrides_come_at_once_in_order() -> None:
    found = refused("train.epochz=3", "seed=x", "nonsense", text=SMALL + "methd: lora\nsed: 1\n")
    assert [line.split(" ")[0] for line in found] == [
        "recipe.yaml:3:1",
        "recipe.yaml:4:1",
        "override",
        "override",
        "override",
    ]
    assert [line[:10] for line in found[2:]] == ["override 1", "override 2", "override 3"]
