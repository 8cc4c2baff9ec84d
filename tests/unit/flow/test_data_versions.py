"""Snapshots, differences and exports, as the commands make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest
import yaml

from sartor.data.making import Means
from sartor.data.pipeline import prepare
from sartor.errors import InputError
from sartor.flow.data_check import data_check
from sartor.flow.data_release import release
from sartor.flow.data_versions import diff, opened, snapshot
from sartor.recipe.load import load


def quiet(event: object) -> None:
    """Shows nothing."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(folder: Path, name: str, **data: Any) -> str:
    body = {"base": "sartor/nano", "data": {"sources": ["rows.jsonl"], **data}}
    (folder / name).write_text(yaml.safe_dump(body))
    return name


def test_a_snapshot_is_named_by_its_content_and_taken_once(folder: Path) -> None:
    job.write_rows(folder / "rows.jsonl", job.labelled())
    first = snapshot(recipe(folder, "a.yaml"), folder / "kept", quiet)
    again = snapshot("a.yaml", folder / "kept", quiet)
    assert (first.new, again.new, again.folder) == (True, False, first.folder)
    assert first.folder.name == first.version.digest[:12]
    other = snapshot(recipe(folder, "b.yaml", split={"seed": 3}), folder / "kept", quiet)
    assert other.folder != first.folder

    (folder / "rows.jsonl").unlink()
    with opened(str(first.folder), quiet) as found:
        assert found.version == first.version
        assert len(found.held.dataset) == 72
    compared = diff(str(first.folder), str(other.folder), quiet)
    assert compared.decided == {
        "data.split": ({**compared.decided["data.split"][1], "seed": 7}, compared.decided["data.split"][1])
    }
    assert compared.counts["moved"] > 0 == compared.counts["added"] + compared.counts["removed"]

    (first.folder / "rows.jsonl").write_text("damaged")
    job.write_rows(folder / "rows.jsonl", job.labelled())
    with pytest.raises(InputError, match="D193"):
        snapshot("a.yaml", folder / "kept", quiet)


def test_a_difference_names_rows_and_what_changed_in_them(folder: Path) -> None:
    rows = job.orders(30)
    job.write_rows(folder / "old.jsonl", rows)
    changed = [{**row, "completion": "{}"} if number == 4 else row for number, row in enumerate(rows[1:])]
    job.write_rows(folder / "new.jsonl", changed)
    found = diff("old.jsonl", "new.jsonl", quiet)
    assert found.counts == {"same": 28, "added": 0, "removed": 1, "changed": 1, "moved": 0}
    assert found.rows["removed"][0]["row"] == "old.jsonl:1"
    (entry,) = found.rows["changed"]
    assert entry["row"] == "new.jsonl:5"
    assert entry["after"] == {"messages.1.content": "{}"}
    assert diff("old.jsonl", "old.jsonl", quiet).counts["same"] == 30


@pytest.mark.parametrize("form", ["jsonl", "parquet", "hub"])
@pytest.mark.parametrize("rows", [job.orders(), job.labelled(), job.texts()], ids=["orders", "labelled", "texts"])
def test_what_is_exported_is_read_as_the_same_rows(form: str, rows: list[dict[str, str]], folder: Path) -> None:
    if form != "jsonl":
        pytest.importorskip("polars")
    job.write_rows(folder / "rows.jsonl", rows)
    found = release(recipe(folder, "a.yaml"), form, folder / "out", quiet)
    assert sum(found.files.values()) == len(rows)
    files = {name: str(folder / "out" / name) for name in found.files}
    assert not data_check(list(files.values()), quiet).errors
    with opened("a.yaml", quiet) as one:
        contents = {row.to_json()["kind"] + str(row.prompt_text()) + row.answer_text() for row in one.held.dataset}
    back = set()
    for path in files.values():
        with opened(path, quiet) as two:
            back |= {row.to_json()["kind"] + str(row.prompt_text()) + row.answer_text() for row in two.held.dataset}
    assert back == contents
    if form == "hub":
        _, head, text = (folder / "out/README.md").read_text().split("---\n", 2)
        listed = yaml.safe_load(head)["configs"][0]["data_files"]
        assert {entry["path"] for entry in listed} == set(found.files)
        assert found.version[:12] in text


def test_openais_form_leaves_out_what_it_cannot_hold_and_says_so(folder: Path) -> None:
    turns = [{"role": "user", "content": "Two?"}, {"role": "assistant", "content": "2", "weight": 0.5}]
    plain = [{"role": "user", "content": "Three?"}, {"role": "assistant", "content": "3", "weight": 1}]
    job.write_rows(folder / "rows.jsonl", [{"messages": turns}, {"messages": plain}])
    found = release("rows.jsonl", "openai", folder / "out", quiet)
    assert (found.files, found.skipped) == ({"train.jsonl": 1}, ["rows.jsonl:1"])
    (line,) = (folder / "out/train.jsonl").read_text().splitlines()
    assert json.loads(line) == {"messages": plain}
    with pytest.raises(InputError, match="D194"):
        release("rows.jsonl", "openai", folder / "out", quiet)
    job.write_rows(folder / "texts.jsonl", job.texts(5))
    with pytest.raises(InputError, match="D177"):
        release("texts.jsonl", "openai", folder / "none", quiet)
    assert not (folder / "none").exists()


def test_a_recipe_gives_the_rows_that_its_run_makes(folder: Path) -> None:
    """Made rows depend on the seed of the recipe."""
    job.write_rows(folder / "rows.jsonl", job.labelled())
    recipe(folder, "r.yaml", augment=["random_edit"])
    loaded = load("r.yaml")
    prepare(loaded.recipe.data, root=folder, folder=folder / "run", emit=quiet, means=Means(loaded.recipe.seed))
    found = diff("run", "r.yaml", quiet)
    assert set(found.counts) > {"same", "added"}
    assert found.counts["same"] == sum(count for count, _ in found.parts.values()) > 72

    recipe(folder, "asks.yaml", augment=[{"paraphrase": {"model": "sartor/nano", "by": "chat"}}])
    with pytest.raises(InputError, match=r"D178: augment\.paraphrase asks a model"):
        snapshot("asks.yaml", folder / "kept", quiet)


def test_a_file_is_compared_whatever_a_run_would_mind(folder: Path) -> None:
    """Raw rows beside cleaned ones: that is when labels are misspelt."""
    rows = [{**row, "label": f"{row['label']}_colour"} for row in job.labelled()]
    job.write_rows(folder / "clean.jsonl", rows)
    misspelt = {**rows[0], "label": rows[0]["label"][:-1]}
    job.write_rows(folder / "raw.jsonl", [misspelt, *rows[1:]])
    assert "D161" in {problem.code for problem in data_check(["raw.jsonl"], quiet).errors}
    assert diff("raw.jsonl", "clean.jsonl", quiet).counts["changed"] == 1
