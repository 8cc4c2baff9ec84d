"""The data set on disk: what goes in comes out, in little memory, with an identity that does not hang on order."""

from __future__ import annotations

import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.data.dataset import Dataset, Index
from sartor.data.rows import Example, Judged, Message, Origin, Preference, Row, Text


def talk(prompt: str, answer: str, line: int = 1, **fields: object) -> Example:
    turns = (Message("user", prompt), Message("assistant", answer))
    return Example(origin=Origin("a.jsonl", line), messages=turns, **fields)  # type: ignore[arg-type]


CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": [1, None, "ä"]}}}
ROWS: list[Row] = [
    talk("Wie geht's? 👋", "Gut\n\u2028ü", 1, id="mine", group="g", stratum="s", columns={"n": {"deep": [1, 2.5]}}),
    Example(
        origin=Origin("b.jsonl", 70_000_000_000),
        messages=(Message("system", "s"), Message("user", "u"), Message("assistant", "", "why", tool_calls=(CALL,))),
        tools=({"type": "function"},),
        label="l",
    ),
    Text(origin=Origin("c.txt", 3), text="plain"),
    Preference(
        origin=Origin("d", 4),
        prompt=(Message("user", "p"),),
        chosen=(Message("assistant", "c"),),
        rejected=(Message("assistant", "r", weight=0.5),),
    ),
    Judged(origin=Origin("e", 5), prompt=(Message("user", "p"),), completion=(Message("assistant", "c"),), liked=True),
]


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    for dataset in (Dataset.write(ROWS, tmp_path), Dataset.open(tmp_path)):
        assert len(dataset) == len(ROWS)
        assert dataset[0] == ROWS[0]
        assert [row.origin for row in dataset] == [row.origin for row in ROWS]
        assert [dataset.origin(i) for i in range(len(ROWS))] == [row.origin for row in ROWS]
        assert [row.content_hash() for row in dataset] == [row.content_hash() for row in ROWS]
        assert [dataset.content_hash(i) for i in range(len(ROWS))] == [row.content_hash() for row in ROWS]
        assert dataset[-1] == dataset[len(ROWS) - 1]
        with pytest.raises(IndexError):
            dataset[len(ROWS)]


def test_a_row_without_id_is_called_by_its_place(tmp_path: Path) -> None:
    dataset = Dataset.write(ROWS, tmp_path)
    assert [row.id for row in dataset] == ["mine", "b.jsonl:70000000000", "c.txt:3", "d:4", "e:5"]


def test_nothing_is_a_data_set_too(tmp_path: Path) -> None:
    Dataset.write([], tmp_path)
    dataset = Dataset.open(tmp_path)
    assert len(dataset) == 0
    assert list(dataset) == []
    assert len(dataset.fingerprint) == 64


def test_fingerprint_ignores_order_and_origin_but_not_content(tmp_path: Path) -> None:
    rows = [talk(f"question {i}", f"answer {i}", i) for i in range(50)]
    moved = [talk(f"question {i}", f"answer {i}", 900 - i, id=f"x{i}") for i in random.Random(1).sample(range(50), 50)]
    other = [*rows[:-1], talk("question 49", "answer 50", 49)]
    prints = [
        Dataset.write(version, tmp_path / str(number)).fingerprint
        for number, version in enumerate((rows, moved, other, rows[:-1], [*rows, rows[0]]))
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_a_subset_is_a_view(tmp_path: Path) -> None:
    dataset = Dataset.write([talk(f"q{i}", "a", i, stratum=str(i % 3)) for i in range(20)], tmp_path)
    part = dataset.subset([7, 3, 3, 19]).subset(np.array([2, 0]))
    assert [row.prompt_text() for row in part] == ["q3", "q7"]
    assert [part.origin(i).line for i in range(2)] == [3, 7]
    assert part.content_hash(1) == dataset.content_hash(7)
    assert part.fingerprint != dataset.fingerprint
    del dataset
    assert part[0].prompt_text() == "q3"
    assert [path.name for path in tmp_path.iterdir()].count("rows.jsonl") == 1


def test_memory_does_not_grow_with_the_length_of_rows(tmp_path: Path) -> None:
    count, words = 100, "many words that would fill the memory " * 1000

    def rows() -> Iterator[Row]:
        for line in range(count):
            yield talk(f"{line} {words}", "yes", line)

    tracemalloc.start()
    dataset = Dataset.write(rows(), tmp_path)
    for row in dataset:
        assert row.prompt_text()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "rows.jsonl").stat().st_size > 3_500_000
    assert peak < 1_500_000
    assert sum(getattr(dataset.index, name).nbytes for name in Index._fields) < 120 * count


def test_blocks_hold_every_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sartor.data.dataset.BLOCK", 1000)
    rows = [talk(f"question {i}", "a" * (i * 17 % 900 if i % 7 else 3000), i) for i in range(60)]
    whole = Dataset.write(rows, tmp_path)
    for dataset in (whole, whole.subset([5, 6, 7, 3, 59, 0, 1]), whole.subset([])):
        blocks = list(dataset.blocks())
        assert [line for block in blocks for line in block.lines()] == [dataset.line(i) for i in range(len(dataset))]
        assert [block.first + n for block in blocks for n in range(len(block.bounds) - 1)] == list(range(len(dataset)))
        assert list(dataset.identities()) == [row.id for row in dataset]
    assert max(len(block.data) for block in whole.blocks()) < 4000


def test_a_block_knows_which_rows_hold_a_word(tmp_path: Path) -> None:
    dataset = Dataset.write([talk(f"{i} {'key' * (i % 4)} {'@' * (i % 5)}", "a", i) for i in range(40)], tmp_path)
    (block,) = dataset.blocks()
    assert block.having(b"key", b"@").tolist() == [i for i in range(40) if i % 4 or i % 5]
    assert block.having(b"nowhere").tolist() == []
    assert [block.line(i) for i in range(40)] == list(block.lines())


def test_what_is_kept_is_copied_as_if_it_were_written_anew(tmp_path: Path) -> None:
    rows = [
        replace(
            talk(f"Question {number} of café?", f"Answer {number}."),
            origin=Origin(f"{number % 3}.jsonl", number),
            stratum=f"s{number % 4}" if number % 4 else None,
        )
        for number in range(400)
    ]
    before = Dataset.write_shingled(rows, tmp_path / "before")
    gone = {0, 1, 7, 100, 101, 399}
    revised, kept = before.revised(((number, None) for number in sorted(gone)), tmp_path / "revised")
    left = [row for number, row in enumerate(rows) if number not in gone]
    anew = Dataset.write(left, tmp_path / "anew")
    assert kept.tolist() == [number for number in range(400) if number not in gone]
    for name in ("rows.jsonl", "index.columns"):
        assert (revised.folder / name).read_bytes() == (anew.folder / name).read_bytes()
    same_shingles(revised, anew)


def test_a_changed_row_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    rows = [replace(talk(f"q{number}", "a"), origin=Origin("a.jsonl", number)) for number in range(9)]
    new = replace(rows[4], messages=(Message("user", "other words"), Message("assistant", "b")))
    before = Dataset.write_shingled(rows, tmp_path / "before")
    revised, kept = before.revised([(3, None), (4, new), (8, None)], tmp_path / "revised")
    anew = Dataset.write([*rows[:3], new, *rows[5:8]], tmp_path / "anew")
    assert kept.tolist() == [0, 1, 2, 4, 5, 6, 7]
    for name in ("rows.jsonl", "index.columns"):
        assert (revised.folder / name).read_bytes() == (anew.folder / name).read_bytes()
    same_shingles(revised, anew)


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=5))
def test_shingles_of_rows_that_pass_are_those_of_their_texts(pairs: list[tuple[str, str]]) -> None:
    rows = [talk(*(text.encode("utf-8", "ignore").decode() for text in pair)) for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        passed = Dataset.write_shingled(rows, Path(folder) / "passed")
        same_shingles(passed, Dataset.write(rows, Path(folder) / "read"))


def same_shingles(one: Dataset, other: Dataset) -> None:
    """Both have the same shingles, worked out in their own ways."""
    whole = np.arange(len(one))
    for mine, theirs in zip(one.shingles().gather(whole), other.shingles().gather(whole), strict=True):
        assert mine.tolist() == theirs.tolist()
