"""Made rows inside the preparation of data: who is a parent, what is kept, what a rerun does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sartor.data.making import Means
from sartor.data.pipeline import DROPPED, MANIFEST, Prepared, prepare
from sartor.errors import DataError
from sartor.recipe.schema import Data

THINGS = ("lamp", "chair", "table", "shelf", "bed", "rug", "spoon", "fork", "plate", "mirror", "kettle", "candle")
PLACES = ("Bern", "Oslo", "Lima", "Cairo", "Quito", "Delhi", "Perth", "Turin", "Kyoto", "Davos")


def rows(count: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"{index * 7919 % 9973} the {THINGS[index % 12]} reached {PLACES[index // 6]} damaged and nobody answered "
            f"call {index * 31 % 89} from the {THINGS[index * 5 % 11]} shop",
            "completion": f"Sorry {index}.",
        }
        for index in range(count)
    ]


def made(folder: Path, *, augment: Any = ("keyboard",), seed: int = 1, out: str = "out", **more: Any) -> Prepared:
    (folder / out).mkdir(exist_ok=True)
    if not (folder / "a.jsonl").exists():
        (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
        (folder / "b.jsonl").write_text('{"prompt": "Tell me something about general history", "completion": "No."}\n')
    sources = more.pop("sources", ("a.jsonl",))
    data = Data.model_validate({"sources": sources, "augment": tuple(augment), **more})
    return prepare(data, root=folder, folder=folder / out, emit=lambda event: None, means=Means(seed))


def test_made_rows_are_for_training_and_named_with_their_parent(tmp_path: Path) -> None:
    plain, more = made(tmp_path, augment=()), made(tmp_path, out="more")
    count = more.augmented[0].made
    assert count == 48
    assert len(more.dataset) == len(plain.dataset) + count
    assert [row.id for row in plain.dataset] == [row.id for row in more.dataset][:60]
    assert (more.splits.part[:60] == plain.splits.part).all()
    assert (more.splits.part[60:] == 0).all()
    assert more.originals.sum() == 60
    entries = json.loads((tmp_path / "more" / MANIFEST).read_text())["rows"]
    assert all("parent" not in entry for entry in entries[:60])
    train = {entry["id"] for entry in entries[:60] if entry["part"] == "train"}
    assert {entry["parent"] for entry in entries[60:]} <= train
    assert [problem.code for problem in more.findings.problems] == ["D196"]


def test_replayed_rows_have_no_children(tmp_path: Path) -> None:
    sources = ["a.jsonl", {"path": "b.jsonl", "role": "replay"}]
    made(tmp_path)
    prepared = made(tmp_path, sources=sources, out="two")
    assert {row.origin.file for row in prepared.dataset} == {"a.jsonl", "b.jsonl"}
    assert all(row.origin.file == "a.jsonl" for row in prepared.dataset if row.parent is not None)


def test_ways_do_not_build_on_each_other_and_are_told_apart(tmp_path: Path) -> None:
    prepared = made(tmp_path, augment=("keyboard", {"keyboard": {"slips": ["drop"]}}))
    names = [str(row.id).rpartition("~") for row in prepared.dataset if row.parent is not None]
    assert {way for _, _, way in names} == {"keyboard-1", "keyboard.2-1"}
    assert not any("~" in parent for parent, _, _ in names)


def test_the_same_again_is_opened_and_another_seed_is_another(tmp_path: Path) -> None:
    first = made(tmp_path)
    stamp = (tmp_path / "out" / "rows.jsonl").stat().st_mtime_ns
    again = made(tmp_path)
    assert (tmp_path / "out" / "rows.jsonl").stat().st_mtime_ns == stamp
    assert again.dataset.fingerprint == first.dataset.fingerprint
    assert again.augmented == first.augmented
    assert made(tmp_path, out="new").dataset.fingerprint == first.dataset.fingerprint
    assert made(tmp_path, seed=2).dataset.fingerprint != first.dataset.fingerprint
    assert made(tmp_path, augment=()).dataset.fingerprint != first.dataset.fingerprint


def test_a_file_that_a_way_reads_decides_as_well(tmp_path: Path) -> None:
    words = tmp_path / "words.jsonl"
    words.write_text(
        '{"lemma": "nobody", "pos": "n", "synonyms": ["none"]}\n{"lemma": "damaged", "pos": "a", "synonyms": ["torn"]}\n'
    )
    way = [{"synonyms": {"wordnet": "words.jsonl"}}]
    first = made(tmp_path, augment=way)
    assert first.augmented[0].made
    words.write_text('{"lemma": "damaged", "pos": "a", "synonyms": ["dented"]}\n')
    assert made(tmp_path, augment=way).dataset.fingerprint != first.dataset.fingerprint
    words.unlink()
    with pytest.raises(DataError, match="D197"):
        made(tmp_path, augment=way)


def test_copies_of_copies_are_left_out_and_listed(tmp_path: Path) -> None:
    prepared = made(tmp_path, augment=[{"synonyms": {"copies": 20}}])
    making = prepared.augmented[0]
    listed = [json.loads(line) for line in (tmp_path / "out" / DROPPED).read_text().splitlines()]
    assert making.dropped["it equals another row"] == len(listed) > 0
    assert {entry["rule"] for entry in listed} == {"augment.synonyms"}
    texts = [row.prompt_text() for row in prepared.dataset]
    assert len(texts) == len(set(texts))


def test_a_model_is_not_asked_where_nobody_may(tmp_path: Path) -> None:
    prepared = made(tmp_path, augment=[{"write": {"model": "nobody/knows"}}, "keyboard"])
    assert [making.pending for making in prepared.augmented] == [True, False]
    assert prepared.augmented[1].made
    assert "no row is made yet" in str(prepared.findings.problems[0])
