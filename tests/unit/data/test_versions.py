"""What tells two states of the data apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Message, Origin, Row
from sartor.data.split import Splits, undivided
from sartor.data.versions import Changes, Held, Version, changes, version_of
from sartor.recipe.schema import Data


def row(line: int, prompt: str, answer: str = "yes", **facts: str) -> Row:
    return Example(
        origin=Origin("a.jsonl", line), messages=(Message("user", prompt), Message("assistant", answer)), **facts
    )


def held(rows: list[Row], folder: Path, parts: list[int] | None = None) -> Held:
    dataset = Dataset.write(rows, folder)
    splits = undivided(dataset, 0.8)
    return Held(dataset, splits if parts is None else replace(splits, part=np.array(parts, np.int8)))


ROWS = [row(line, f"question number {line} about {word}") for line, word in enumerate(("tea", "rye", "oak", "ink"), 1)]


def compared(old: list[Row], new: list[Row], folder: Path, parts: list[int] | None = None) -> Changes:
    return changes(held(old, folder / "old", [0] * len(old)), held(new, folder / "new", parts or [0] * len(new)))


def test_the_order_of_rows_changes_nothing_but_the_order(tmp_path: Path) -> None:
    found = compared(ROWS, ROWS[::-1], tmp_path)
    assert (found.same, len(found.added), len(found.removed), found.changed, found.moved) == (4, 0, 0, [], [])
    one, two = held(ROWS, tmp_path / "1"), held(ROWS[::-1], tmp_path / "2")
    versions = [version_of(*each, None) for each in (one, two)]
    assert versions[0].rows == versions[1].rows
    assert versions[0].order != versions[1].order
    assert versions[0].digest != versions[1].digest


def test_rows_are_known_again_by_id_prompt_or_place(tmp_path: Path) -> None:
    old = [row(1, "one", id="k1"), row(2, "what is two"), row(3, "three", "old"), row(4, "four")]
    new = [row(9, "one, rewritten", "new", id="k1"), row(7, "what is two", "2"), row(3, "3?", "new"), row(8, "8?")]
    found = compared(old, new, tmp_path)
    assert found.changed == [(0, 0), (1, 1), (2, 2)]
    assert (found.added.tolist(), found.removed.tolist(), found.same) == ([3], [3], 0)


def test_copies_are_counted(tmp_path: Path) -> None:
    found = compared([ROWS[0], ROWS[0], ROWS[1]], [ROWS[0], ROWS[1], ROWS[1]], tmp_path)
    assert (found.same, len(found.added), len(found.removed)) == (2, 1, 1)


def test_a_row_in_another_part_has_moved(tmp_path: Path) -> None:
    found = compared(ROWS, ROWS, tmp_path, [0, 2, 0, 1])
    assert (found.same, found.moved) == (2, [(1, 1), (3, 3)])


@pytest.mark.parametrize(
    "other",
    [{"split": {"seed": 8}}, {"clean": ["whitespace"]}, {"too_long": "drop"}, {"temperature": 2.0}],
    ids=lambda change: next(iter(change)),
)
def test_every_transform_is_part_of_the_version(other: dict[str, object], tmp_path: Path) -> None:
    sources = [{"path": "a.jsonl"}]
    rows = held(ROWS, tmp_path)
    plain, changed = (
        version_of(*rows, Data.model_validate({"sources": sources, **more}), "template") for more in ({}, other)
    )
    assert plain.digest != changed.digest
    assert version_of(*rows, Data.model_validate({"sources": sources}), "other").digest != plain.digest
    assert version_of(*rows, Data.model_validate({"sources": [{"path": "renamed.jsonl"}]}), "template") == plain
    assert Version.restore(plain.json()) == plain


def test_parts_are_part_of_the_version(tmp_path: Path) -> None:
    one, two = held(ROWS, tmp_path / "1", [0, 0, 1, 2]), held(ROWS, tmp_path / "2", [0, 0, 2, 1])
    assert version_of(*one, None).digest != version_of(*two, None).digest
    assert isinstance(one.splits, Splits)
