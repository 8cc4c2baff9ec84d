from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from sartor.errors import RecipeError
from sartor.options import Options
from sartor.recipe.load import Loaded, load, parse
from sartor.recipe.schema import BatchSize, Component, Recipe, Split

SMALL = "base: sartor/nano\ndata: tickets.jsonl\n"


def test_the_smallest_recipe_has_careful_defaults() -> None:
    recipe = parse(SMALL).recipe
    assert recipe.base.model == "sartor/nano"
    assert [source.path for source in recipe.data.sources] == ["tickets.jsonl"]
    assert recipe.method == "auto"
    assert recipe.train.schedule.name == "cosine"
    assert recipe.train.optimizer == "auto"
    assert recipe.data.split == Split()


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("base: m\ndata: a.jsonl", "base: {model: m}\ndata: {sources: [{path: a.jsonl}]}"),
        ("base: m\ndata: [a, {path: b}]", "base: {model: m}\ndata: {sources: [{path: a}, {path: b}]}"),
        (SMALL + "goal: text in, JSON out", SMALL + "goal: {statement: 'text in, JSON out'}"),
        (SMALL + "method: full", SMALL + "method: {full: {}}"),
        (SMALL + "method: {lora: }", SMALL + "method: lora"),
        (SMALL + "train: {optimizer: sgd, schedule: linear}", SMALL + "train: {optimizer: {sgd: {}}, schedule: {linear: {}}}"),
        (SMALL + "train: {stop: {on: validation.loss}}", SMALL + "train: {stop: {on: loss}}"),
    ],
)  # fmt: skip
def test_shorthands_mean_the_long_form(short: str, long: str) -> None:
    assert parse(short).recipe == parse(long).recipe


def test_shorthands_work_from_python_too() -> None:
    made = Recipe(base="sartor/nano", data=["a", {"path": "b"}], method="full", train={"optimizer": "adamw"})  # type: ignore[arg-type]
    assert made == parse("base: sartor/nano\ndata: [a, b]\nmethod: full\ntrain: {optimizer: adamw}").recipe


def test_options_are_strict_and_take_lists_for_tuples() -> None:
    recipe = parse(SMALL + "train: {optimizer: {adamw: {betas: [0.8, 0.9]}}}").recipe
    assert isinstance(recipe.train.optimizer, Component)
    assert recipe.train.optimizer.options.model_dump()["betas"] == (0.8, 0.9)
    for wrong in ({"tokens": "8"}, {"tokens": True}, {"tokens": 1.0}, {"examples": 1, "token": 2}):
        with pytest.raises(ValidationError):
            BatchSize.model_validate(wrong)


def test_a_dump_is_what_a_user_could_have_written() -> None:
    recipe = parse(SMALL + "method: {lora: {rank: 4}}").recipe
    assert recipe.model_dump()["method"]["lora"]["rank"] == 4
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_given_names_what_was_written() -> None:
    loaded = parse("base: m\ndata: a.jsonl\nmethod: {lora: {rank: 8}}\n", overrides=["train.epochs=3"])
    assert loaded.given == {
        *("base", "base.model", "data", "data.sources", "data.sources[0]", "data.sources[0].path"),
        *("method", "method.lora", "method.lora.rank", "train", "train.epochs"),
    }


def test_a_file_is_read_with_its_folder_as_root(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(SMALL + "# a comment\n")
    loaded = load(path, ["seed=4"])
    assert (loaded.path, loaded.root, loaded.recipe.seed) == (path, tmp_path, 4)
    assert loaded.text == path.read_text()
    assert loaded.overrides == ("seed=4",)
    assert loaded.where("base.model") == "recipe.yaml:1"
    assert loaded.where("seed") == "override 1: seed=4"
    assert loaded.where("train.epochs") is None


def where(loaded: Loaded, key: str) -> tuple[int | None, int | None]:
    problem = loaded.problem("M130", key, "too long", fix="less")
    return problem.line, problem.column


def test_other_rooms_can_point_into_the_recipe() -> None:
    loaded = parse("base: m\ndata: [a.jsonl, b.jsonl]\ntrain:\n  stop: {patience: 2}\n", "recipe.yaml")
    assert where(loaded, "data.sources[1].path") == (2, 17)
    assert where(loaded, "train.stop.patience") == (4, 10)
    assert where(loaded, "train.stop.min_delta") == (4, 3)
    assert str(loaded.problem("M130", "base.model", "too long")).startswith("recipe.yaml:1:7  error M130: too long")


@pytest.mark.parametrize("room", ["method", "objective", "optimizer", "schedule"])
def test_a_registered_component_is_known_by_its_file(
    room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sartor import registry

    package = tmp_path / f"fake_{room}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    code = "from sartor.options import Options as Base\nclass Options(Base):\n    size: int = 3\n    'How large.'\n"
    (package / "brandnew.py").write_text(code)
    for name in registry.names(room):
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.ROOMS, room, package.name)
    registry._modules.cache_clear()
    try:
        key = room if room == "method" else f"train.{room}"
        loaded = parse(SMALL, overrides=[f"{key}={{brandnew: {{size: 5}}}}"])
        found = loaded.recipe.method if room == "method" else getattr(loaded.recipe.train, room)
        assert (found.name, found.options.size) == ("brandnew", 5)
        with pytest.raises(RecipeError, match='did you mean "brandnew"'):
            parse(SMALL, overrides=[f"{key}=brandnw"])
        with pytest.raises(RecipeError, match='did you mean "size"'):
            parse(SMALL, overrides=[f"{key}={{brandnew: {{siz: 5}}}}"])
    finally:
        registry._modules.cache_clear()


def test_every_key_is_documented() -> None:
    from sartor.recipe import shape

    for leaf in shape.tree():
        assert leaf.field.description, f"{leaf.key} has no docstring"
        assert issubclass(leaf.owner, Options)


def test_knobs_hold_the_options_of_every_component_and_no_sections() -> None:
    from sartor import registry
    from sartor.recipe.shape import knobs

    found = knobs()
    assert len(found) == len(set(found))
    assert {"seed", "method", "data.sources[].map", "train.batch.tokens", "train.objective"} <= set(found)
    assert not {"data", "train", "train.batch", "data.sources", "goal.success"} & set(found)
    for kind, key in {"method": "method", "optimizer": "train.optimizer", "schedule": "train.schedule"}.items():
        for name in registry.names(kind):
            for option in registry.component(kind, name).Options.model_fields:
                assert f"{key}.{name}.{option}" in found


def test_loading_is_fast_and_without_the_heavy_libraries(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(SMALL + "method: {lora: {rank: 4}}\ntrain: {optimizer: {adamw: {learning_rate: 1e-4}}}\n")
    code = (
        "import sys; from sartor.recipe.load import load; from sartor.recipe import auto, editor\n"
        "heavy = lambda: [name for name in ('numpy', 'torch', 'transformers', 'tokenizers') if name in sys.modules]\n"
        f"loaded = load({str(path)!r}); told = heavy()\n"
        "auto.Resolution(loaded).to_yaml(); editor.json_schema()\n"
        "print(told, set(heavy()) - {'numpy'})"
    )
    source = str(Path(sys.modules["sartor"].__file__ or "").parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": source}
    )
    assert done.stdout.strip() == "[] set()"
    times = []
    for _ in range(5):
        began = time.perf_counter()
        load(path)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.06
