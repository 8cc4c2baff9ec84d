"""sartor init: what it sees in data, the recipe it writes, and that it neither hangs nor overwrites."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml

from sartor.cli.main import run
from sartor.recipe.schema import Recipe


class Keyboard(io.StringIO):
    """A terminal at which these lines are typed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return tmp_path


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(folder: Path) -> Recipe:
    return Recipe.model_validate(yaml.safe_load((folder / "recipe.yaml").read_text()))


CHAT = {
    "messages": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "See you"},
    ]
}


@pytest.mark.parametrize(
    ("row", "task", "metric"),
    [
        ({"prompt": "Who?", "completion": "Me."}, "generate", "perplexity"),
        ({"prompt": "Order 3 pens", "completion": '{"item": "pen", "count": 3}'}, "generate", "json_valid"),
        ({"text": "lovely film", "label": "good"}, "classify", "accuracy"),
        ({"text": "Once upon a time there was a tailor."}, "pretrain", "perplexity"),
        (CHAT, "chat", "perplexity"),
    ],
)
def test_the_task_is_read_off_the_data_and_the_recipe_is_valid(
    row: dict[str, object], task: str, metric: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "rows.jsonl", [row] * 3)
    assert run(["init"]) == 0
    written = recipe(folder)
    assert written.goal.task == task
    assert written.goal.success[0].metric == metric
    assert written.base.model == "sartor/nano"
    assert written.data.sources[0].path == "rows.jsonl"
    shown = capsys.readouterr()
    assert "3 rows" in shown.err
    assert "next: sartor check recipe.yaml" in shown.out


@pytest.mark.parametrize("metric", ["perplexity", "json_valid", "accuracy"])
def test_the_gates_it_writes_name_metrics_that_exist(metric: str) -> None:
    from sartor import registry

    assert metric in registry.names("metric")


def test_paths_are_relative_to_the_recipe_and_text_is_quoted(folder: Path) -> None:
    write(folder / "my rows.jsonl", [{"prompt": "a", "completion": "b"}])
    goal = 'Say "b": always, # never c'
    assert run(["init", "there/deep", "--data", "my rows.jsonl", "--goal", goal, "--base", "null"]) == 0
    written = recipe(folder / "there/deep")
    assert written.data.sources[0].path == "../../my rows.jsonl"
    assert written.goal.statement == goal
    assert written.base.model == "null"


def test_columns_can_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "rows.jsonl", [{"zig": "a", "zag": "b"}])
    assert run(["init"]) == 2
    assert "--map FIELD=COLUMN" in capsys.readouterr().err
    assert run(["init", "--map", "prompt=zig", "--map", "completion=zag"]) == 0
    assert recipe(folder).data.sources[0].map == {"prompt": "zig", "completion": "zag"}
    assert run(["init", "other", "--data", "rows.jsonl", "--map", "zig"]) == 2


def test_it_never_overwrites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    (folder / "recipe.yaml").write_text("mine")
    assert run(["init"]) == 2
    assert "R160" in capsys.readouterr().err
    assert (folder / "recipe.yaml").read_text() == "mine"


def test_without_a_terminal_it_does_not_ask_and_says_what_it_needs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init"]) == 2
    write(folder / "a.jsonl", [{"prompt": "a", "completion": "b"}])
    write(folder / "b.jsonl", [{"prompt": "a", "completion": "b"}])
    assert run(["init"]) == 2
    shown = capsys.readouterr().err
    assert "there is none in this folder" in shown
    assert "a.jsonl, b.jsonl" in shown
    assert not (folder / "recipe.yaml").exists()


def test_at_a_terminal_it_asks_three_questions(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    monkeypatch.setattr("sys.stdin", Keyboard("\nAnswer every a with b\nmy/model\n"))
    assert run(["init", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["task"] == "generate"
    assert shown.err.count("?") == 3
    assert (recipe(folder).goal.statement, recipe(folder).base.model) == ("Answer every a with b", "my/model")


def test_a_vague_goal_is_refused_and_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    assert run(["init", "--goal", "better"]) == 2
    assert "too vague" in capsys.readouterr().err
    assert not (folder / "recipe.yaml").exists()


def test_bad_rows_are_shown_and_do_not_stop_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "rows.jsonl", [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": None}])
    assert run(["init"]) == 0
    assert "rows.jsonl:2: error D111" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "{broken\n"])
def test_data_that_cannot_be_used_is_refused(
    content: str | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (folder / "rows.jsonl").write_text(content)
    assert run(["init", "--data", "rows.jsonl"]) == 2
    assert "rows.jsonl" in capsys.readouterr().err
    assert not (folder / "recipe.yaml").exists()


def test_rows_that_nothing_can_learn_from_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "rows.jsonl", [{"prompt": "What is a lamp for?"}, {"prompt": "Who makes rugs?"}])
    assert run(["init"]) == 2
    said = capsys.readouterr().err
    assert "error D173" in said
    assert "rewards" in said
    assert not (folder / "recipe.yaml").exists()
