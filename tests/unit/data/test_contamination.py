"""Rows that give a test away are found and refused, or left out and named."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sartor.data.overlap import Grams
from sartor.data.pipeline import DROPPED, MANIFEST, Prepared, examine, not_at_all, prepare
from sartor.errors import DataError
from sartor.recipe.schema import Data, Source, Split

WORDS = [f"{a}{b}{c}{d}" for a in "bdfgkl" for b in "aeiou" for c in "nrst" for d in ("a", "o", "")]


def sentence(source: random.Random, length: int = 24) -> str:
    return " ".join(source.choices(WORDS, k=length))


def quiet(event: object) -> None:
    """Shows nothing."""


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """train.jsonl with an equal (5), a nearly equal (10) and a contained (15) item, and one short one (20)."""
    source = random.Random(4)
    rows = [{"prompt": sentence(source), "completion": sentence(source, 6)} for _ in range(60)]
    items = [{"question": sentence(source), "answer": sentence(source, 3)} for _ in range(30)]
    items[7] = {"question": "which kalo banata ferto gisa lokuna", "answer": "x"}
    rows[4]["prompt"] = items[2]["question"].upper()
    rows[9]["prompt"] = items[3]["question"].rpartition(" ")[0] + " zzz"
    rows[14]["completion"] = f"{sentence(source, 60)}: {items[4]['question'].title()}! {sentence(source, 60)}"
    rows[19]["completion"] = f"I was asked: Which kalo banata ferto gisa lokuna? {sentence(source, 40)}"
    rows[29]["prompt"] = " ".join(items[5]["question"].split()[:9]) + " " + sentence(source, 15)
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "bench.jsonl", items)
    return tmp_path


def data(**more: Any) -> Data:
    return Data(sources=(Source(path="train.jsonl"),), against=("bench.jsonl",), **more)


def run(root: Path, given: Data) -> Prepared:
    folder = root / "out"
    folder.mkdir(exist_ok=True)
    return prepare(given, root=root, folder=folder, emit=quiet)


def test_equal_near_and_contained_copies_are_refused(planted: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(planted, data(split=Split(train=1.0, validation=0.0, test=0.0)))
    told = [(problem.code, problem.line, problem.what) for problem in caught.value.problems]
    assert [line for _, line, _ in told] == [5, 10, 15]
    assert told[0] == ("D153", 5, "asks the same as bench.jsonl:3, which is to be measured on")
    assert told[1][2].startswith("nearly the same as bench.jsonl:4, which is to be measured on (likeness 0.9")
    assert told[2][2].startswith("holds the words of bench.jsonl:5, which is to be measured on (word for word)")
    assert caught.value.problems[2].rows == (20,)
    assert all(problem.file == "train.jsonl" for problem in caught.value.problems)


def test_they_are_left_out_when_asked_and_each_is_named(planted: Path) -> None:
    prepared = run(planted, data(on_leak="drop", split=Split(train=0.8, validation=0.2, test=0.0)))
    gone = [json.loads(line) for line in (planted / "out" / DROPPED).read_text(encoding="utf-8").splitlines()]
    assert {(entry["line"], entry["rule"], entry["reason"]) for entry in gone} == {
        (5, "leak", "asks the same as bench.jsonl:3"),
        (10, "leak", "nearly the same as bench.jsonl:4"),
        (15, "leak", "holds the words of bench.jsonl:5"),
        (20, "leak", "holds the words of bench.jsonl:8"),
    }
    assert prepared.splits.left_out.tolist() == [4, 9, 14, 19]
    manifest = json.loads((planted / "out" / MANIFEST).read_text(encoding="utf-8"))
    told = manifest["split"]["against"]
    assert told["files"] == {"bench.jsonl": 30}
    assert told["rows"] == {"same": 1, "near": 1, "n-gram": 2}
    assert (told["items"], told["dropped"]) == (4, 4)
    assert told["residual"]["max"] < 0.5
    assert run(planted, data(on_leak="drop", split=Split(train=0.8, validation=0.2, test=0.0))).splits.against == told


def test_another_benchmark_is_prepared_anew(planted: Path) -> None:
    given = data(on_leak="drop", split=Split(train=0.8, validation=0.2, test=0.0))
    assert len(run(planted, given).splits.left_out) == 4
    write(planted / "bench.jsonl", [{"question": "something else entirely"}])
    assert len(run(planted, given).splits.left_out) == 0


def test_a_benchmark_that_cannot_be_read_is_named(planted: Path) -> None:
    write(planted / "bench.jsonl", [{"n": 1}])
    with pytest.raises(DataError, match=r"bench\.jsonl:1: error D112"):
        run(planted, data())
    (planted / "bench.jsonl").unlink()
    with pytest.raises(DataError, match=r"bench\.jsonl: error D113"):
        run(planted, data())


def test_rows_given_for_training_that_leak_into_a_given_test(planted: Path) -> None:
    source = random.Random(8)
    rows = [json.loads(line) for line in (planted / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    held = [{"prompt": sentence(source), "completion": "x"} for _ in range(10)]
    held[0]["prompt"] = rows[30]["prompt"]
    rows[40]["completion"] = f"{sentence(source, 50)} {held[1]['prompt']} {sentence(source, 50)}"
    rows[50]["prompt"] = held[2]["prompt"] = "Where is it?"
    write(planted / "train.jsonl", rows)
    write(planted / "test.jsonl", held)
    sources = (Source(path="train.jsonl", role="train"), Source(path="test.jsonl", role="test"))
    with pytest.raises(DataError) as caught:
        run(planted, Data(sources=sources))
    assert {(problem.code, problem.where) for problem in caught.value.problems} == {
        ("D151", "test.jsonl:1"),
        ("D152", "test.jsonl:2"),
    }
    prepared = run(planted, Data(sources=sources, on_leak="drop"))
    assert prepared.splits.left_out.tolist() == [30, 40, 50]
    assert prepared.splits.twins.tolist() == [60, 61, 62]
    assert "D157" in [problem.code for problem in prepared.findings.problems]


def test_a_file_is_compared_without_being_divided(planted: Path) -> None:
    audit = examine(data(), root=planted, folder=planted / "work", emit=quiet, divide=not_at_all)
    assert [problem.code for problem in audit.findings.errors] == ["D153", "D153", "D153"]


def test_grams_equal_a_plain_count() -> None:
    """Against the definition, word by word."""
    source = random.Random(6)
    items = [sentence(source, source.randint(8, 30)) for _ in range(40)]
    texts = [sentence(source, 80) for _ in range(50)]
    for at in range(0, 50, 3):
        words = items[at % 40].split()
        cut = source.randint(len(words) // 2, len(words))
        texts[at] = f"{texts[at]} {' '.join(words[:cut])} {sentence(source, 9)}"
    grams = Grams(items)

    def runs(text: str) -> set[tuple[str, ...]]:
        said = text.split()
        return {tuple(said[at : at + grams.n]) for at in range(len(said) - grams.n + 1)}

    expected = []
    for number, text in enumerate(texts):
        shares = [len(runs(item) & runs(text)) / len(runs(item)) if runs(item) else 0.0 for item in items]
        if max(shares) >= 0.5:
            expected.append((number, int(np.argmax(shares)), max(shares)))
    found = grams.held_by(texts)
    assert list(zip(found.text.tolist(), found.item.tolist(), found.share.tolist(), strict=True)) == expected
    assert len(expected) > 3


def test_a_frame_of_the_benchmark_convicts_nobody() -> None:
    source = random.Random(2)
    frame = "answer the following question with one of the letters a b c or d please"
    items = [f"{frame} {sentence(source, 8)}" for _ in range(40)]
    assert len(Grams(items).held_by([f"{frame} {sentence(source, 30)}" for _ in range(20)])) == 0
    assert len(Grams(items).held_by([f"so {items[3]} it is"])) == 1


def test_nothing_to_compare() -> None:
    assert len(Grams([]).held_by(["some words here"])) == 0
    assert len(Grams(["short one"]).held_by(["a short one here", ""])) == 0
