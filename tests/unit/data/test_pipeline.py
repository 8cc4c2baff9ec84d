"""From the recipe's data section to prepared rows, and what is written about them."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sartor.data.pipeline import Prepared, examine, not_at_all, prepare
from sartor.errors import DataError
from sartor.events import Event, Progressed
from sartor.recipe.schema import Data

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "s")]


def sentence(source: random.Random, length: int = 12) -> str:
    return " ".join(source.choices(WORDS, k=length))


def lines(folder: Path, name: str, count: int, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    source = random.Random(seed)
    rows = [{"prompt": sentence(source), "completion": sentence(source, 5), **more} for _ in range(count)]
    write(folder / name, rows)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def run(root: Path, *sources: Any, events: list[Event] | None = None, **more: Any) -> Prepared:
    data = Data(sources=[{"path": each} if isinstance(each, str) else each for each in sources], **more)  # type: ignore[arg-type]
    collect = [] if events is None else events
    return prepare(data, root=root, folder=root / "out", emit=collect.append)


def refused(root: Path, *sources: Any, **more: Any) -> DataError:
    def written() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (root / "out").glob("*")}

    before = written()
    with pytest.raises(DataError) as fault:
        run(root, *sources, **more)
    assert written() == before, "nothing is written or lost"
    return fault.value


def test_rows_are_read_divided_and_recorded(tmp_path: Path) -> None:
    lines(tmp_path, "a.jsonl", 60)
    lines(tmp_path, "b.jsonl", 40, seed=1)
    prepared = run(tmp_path, "a.jsonl", "b.jsonl")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert prepared.task == manifest["task"] == "chat"
    assert manifest["fingerprint"] == prepared.dataset.fingerprint
    assert Counter(row["part"] for row in manifest["rows"]) == {"train": 80, "validation": 10, "test": 10}
    assert [row["id"] for row in manifest["rows"][59:61]] == ["a.jsonl:60", "b.jsonl:1"]
    assert all(row["hash"] == prepared.dataset[n].content_hash() for n, row in enumerate(manifest["rows"]))
    assert [recognised.format for recognised in prepared.recognised] == ["prompt_completion"] * 2
    findings = json.loads((tmp_path / "out" / "findings.json").read_text(encoding="utf-8"))
    assert [file["path"] for file in findings["files"]] == ["a.jsonl", "b.jsonl"]
    assert (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8") == ""


def test_the_users_ids_are_kept(tmp_path: Path) -> None:
    rows = lines(tmp_path, "a.jsonl", 20)
    write(tmp_path / "a.jsonl", [{**row, "key": f"k{n}"} for n, row in enumerate(rows)])
    prepared = run(tmp_path, {"path": "a.jsonl", "id": "key"})
    assert [row.id for row in prepared.dataset] == [f"k{n}" for n in range(20)]


def test_the_split_does_not_depend_on_the_order_of_lines(tmp_path: Path) -> None:
    rows = lines(tmp_path, "a.jsonl", 50)
    one = run(tmp_path, "a.jsonl")
    first = {row.prompt_text(): one.splits.part[n] for n, row in enumerate(one.dataset)}
    write(tmp_path / "a.jsonl", rows[::-1])
    other = run(tmp_path, "a.jsonl")
    assert first == {row.prompt_text(): other.splits.part[n] for n, row in enumerate(other.dataset)}
    assert one.dataset.fingerprint == other.dataset.fingerprint


def test_tasks_follow_the_rows(tmp_path: Path) -> None:
    source = random.Random(0)
    write(tmp_path / "l.jsonl", [{"text": sentence(source), "label": "ab"[n % 2]} for n in range(30)])
    write(tmp_path / "t.jsonl", [{"text": sentence(source)} for n in range(30)])
    assert run(tmp_path, "l.jsonl").task == "classify"
    assert run(tmp_path, "t.jsonl").task == "pretrain"


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    lines(tmp_path, "a.jsonl", 20)
    write(tmp_path / "t.jsonl", [{"text": "some words"}])
    fault = refused(tmp_path, "a.jsonl", "t.jsonl")
    assert str(fault).startswith("t.jsonl:1: error D118: this row is of kind text, a.jsonl:1 is of kind example")


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    rows = lines(tmp_path, "a.jsonl", 20)
    rows[3]["completion"] = None
    rows[4]["prompt"] = "my key is AKIA" + "Q" * 16
    write(tmp_path / "a.jsonl", rows)
    fault = refused(tmp_path, "a.jsonl", "missing.jsonl")
    assert [problem.code for problem in fault.problems] == ["D111", "D113", "S301"]
    assert [problem.where for problem in fault.problems] == ["a.jsonl:4", "missing.jsonl", "a.jsonl:5"]


def test_bad_rows_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    rows = lines(tmp_path, "a.jsonl", 20)
    rows[3]["completion"] = None
    write(tmp_path / "a.jsonl", rows)
    prepared = run(tmp_path, "a.jsonl", on_bad="skip")
    assert len(prepared.dataset) == 19
    (dropped,) = (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(dropped)["row"] == "a.jsonl:4"
    assert json.loads(dropped)["rule"] == "D111"
    assert prepared.findings.json()["files"][0]["skipped"] == 1


def test_files_without_a_row_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    assert [problem.code for problem in refused(tmp_path, "empty.jsonl").problems] == ["D100"]
    write(tmp_path / "bad.jsonl", [{"prompt": "p", "completion": None}])
    assert "D100" in str(refused(tmp_path, "bad.jsonl", on_bad="skip"))


def test_too_few_rows_is_not_added_to_faults_that_explain_it(tmp_path: Path) -> None:
    rows = lines(tmp_path, "a.jsonl", 3)
    write(tmp_path / "a.jsonl", rows[:2])
    assert [problem.code for problem in refused(tmp_path, "a.jsonl").problems] == ["D154"]
    write(tmp_path / "a.jsonl", [*rows[:2], {"prompt": "p", "completion": None}])
    assert [problem.code for problem in refused(tmp_path, "a.jsonl").problems] == ["D111"]


def test_training_rows_that_belong_with_the_given_test_file_are_left_out(tmp_path: Path) -> None:
    rows = lines(tmp_path, "train.jsonl", 60)
    held = lines(tmp_path, "test.jsonl", 20, seed=1)
    write(tmp_path / "test.jsonl", [*held, rows[10], {"prompt": rows[20]["prompt"], "completion": "something else"}])
    prepared = run(tmp_path, "train.jsonl", {"path": "test.jsonl", "role": "test"})
    assert len(prepared.splits.indices("test")) == 22
    dropped = [
        json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [(entry["row"], entry["rule"]) for entry in dropped] == [
        ("train.jsonl:11", "leak"),
        ("train.jsonl:21", "leak"),
    ]
    assert dropped[0]["reason"] == "belongs with the held-out row test.jsonl:21"
    (note,) = (problem for problem in prepared.findings.problems if problem.code == "D157")
    assert (note.level, note.line, note.rows) == ("info", 11, (21,))
    fault = refused(tmp_path, {"path": "train.jsonl", "role": "train"}, {"path": "test.jsonl", "role": "test"})
    assert [problem.code for problem in fault.problems] == ["D151"]


def test_stratify_by_the_column_that_is_the_label(tmp_path: Path) -> None:
    source = random.Random(0)
    write(tmp_path / "a.jsonl", [{"q": sentence(source), "intent": "ab"[n > 20]} for n in range(100)])
    own = {"path": "a.jsonl", "format": "labeled", "map": {"text": "q", "label": "intent"}}
    prepared = run(tmp_path, own, split={"stratify": "intent"})
    held = prepared.splits.indices("test")
    assert Counter(prepared.dataset.index.label[held].tolist()) == {0: 2, 1: 8}


def test_progress_is_reported(tmp_path: Path) -> None:
    lines(tmp_path, "a.jsonl", 30)
    events: list[Event] = []
    run(tmp_path, "a.jsonl", events=events)
    progress = [(event.task, event.done) for event in events if isinstance(event, Progressed)]
    assert ("reading", 30) in progress
    assert ("comparing rows", 30) in progress
    assert progress[-1][0] == "checking"


def test_looking_at_two_rows_is_fine(tmp_path: Path) -> None:
    lines(tmp_path, "a.jsonl", 2)
    data = Data(sources=({"path": "a.jsonl"},))  # type: ignore[arg-type]
    audit = examine(data, root=tmp_path, folder=tmp_path / "out", emit=lambda event: None, divide=not_at_all)
    assert audit.findings.problems == []
    assert audit.splits is not None
    assert not audit.splits.divided


def test_records_are_written_again_with_what_later_stages_drop(tmp_path: Path) -> None:
    lines(tmp_path, "a.jsonl", 30)
    prepared = run(tmp_path, "a.jsonl")
    prepared.findings.drop(prepared.dataset.origin(4), "too_long", "3,000 tokens")
    prepared.write(tmp_path / "out")
    assert "too_long" in (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8")
    assert not list((tmp_path / "out").glob(".tmp*"))
