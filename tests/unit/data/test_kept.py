"""What was prepared is opened again, and made again once anything that decides it has changed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sartor.data.dataset import INDEX, ROWS
from sartor.data.owners import Owners
from sartor.data.pipeline import KEPT, MANIFEST, SPLITS, Prepared, prepare
from sartor.data.rows import Origin
from sartor.errors import DataError
from sartor.events import Event
from sartor.recipe.schema import Data

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "s")]


def write(folder: Path, count: int = 60, seed: int = 0) -> None:
    source = random.Random(seed)
    rows: list[dict[str, Any]] = [
        {"prompt": " ".join(source.choices(WORDS, k=9)), "completion": " ".join(source.choices(WORDS, k=5))}
        for _ in range(count)
    ]
    rows += [rows[0], {"prompt": "p", "completion": None}]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(folder: Path, **more: Any) -> tuple[Prepared, list[Event]]:
    events: list[Event] = []
    data = Data(sources=[{"path": "a.jsonl"}], on_bad="skip", **more)  # type: ignore[arg-type]
    return prepare(data, root=folder, folder=folder / "out", emit=events.append), events


def test_nothing_is_read_again(tmp_path: Path) -> None:
    write(tmp_path)
    first, events = run(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again, silence = run(tmp_path)
    assert events
    assert not silence
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert list(again.dataset) == list(first.dataset)
    assert again.dataset.fingerprint == first.dataset.fingerprint
    assert again.task == first.task
    assert again.splits.json() == first.splits.json()
    assert again.splits.residual == first.splits.residual
    for name in ("part", "given", "twins"):
        assert np.array_equal(getattr(again.splits, name), getattr(first.splits, name))
    assert again.findings.json() == first.findings.json()
    assert again.findings.problems == first.findings.problems
    assert list(again.findings.dropped) == list(first.findings.dropped)
    assert [problem.code for problem in again.findings.problems] == ["D111", "D150"]


@pytest.mark.parametrize("name", [ROWS, INDEX, SPLITS, MANIFEST, KEPT])
@pytest.mark.parametrize("change", ["lost", "cut", "altered"])
def test_what_is_damaged_is_made_again(tmp_path: Path, name: str, change: str) -> None:
    write(tmp_path)
    run(tmp_path)
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.unlink()
    if change != "lost":
        path.write_bytes(whole[: len(whole) // 2] if change == "cut" else b"{" + whole[1:-1] + b"#")
    _, events = run(tmp_path)
    assert events
    assert path.read_bytes() == whole


def test_other_data_or_another_recipe_is_prepared_anew(tmp_path: Path) -> None:
    write(tmp_path)
    first, _ = run(tmp_path)
    other, events = run(tmp_path, split={"seed": 9})
    assert events
    assert other.splits.part.tolist() != first.splits.part.tolist()
    write(tmp_path, seed=1)
    changed, events = run(tmp_path, split={"seed": 9})
    assert events
    assert changed.dataset.fingerprint != first.dataset.fingerprint


def test_a_file_that_is_gone_is_told_although_its_rows_are_kept(tmp_path: Path) -> None:
    write(tmp_path)
    run(tmp_path)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(DataError, match="D113"):
        run(tmp_path)


def test_owners_are_found_among_many() -> None:
    owners = Owners()
    for number in range(5000):
        assert owners.claim(f"id {number}", Origin(f"{number % 3}.jsonl", number)) is None
    for number in range(5000):
        assert owners.claim(f"id {number}", Origin("z", 1)) == Origin(f"{number % 3}.jsonl", number)
