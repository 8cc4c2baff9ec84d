"""Stages one behind the other, over rows on their way and rows on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sartor import registry
from sartor.data import cleaning
from sartor.data.ledger import CHANGED, REMOVED, entries
from sartor.data.outcome import Drop, Suggestion, with_texts
from sartor.data.rows import Origin, Row, Text
from sartor.options import NoOptions
from sartor.recipe.schema import Component


def without(letter: str) -> Any:
    """A stage that takes a letter out of every text."""
    return SimpleNamespace(cleaner=lambda options: lambda row: with_texts(row, lambda text: text.replace(letter, "")))


def every_second(dataset: Any, roles: Any, options: Any, seen: Any) -> Iterator[tuple[int, Any]]:
    yield from ((number, Drop("even")) for number in range(0, len(dataset), 2))


def proposed(row: Row) -> Suggestion:
    return Suggestion(with_texts(row, str.upper), "capitals")


STAGES = {
    "a": without("a"),
    "b": without("b"),
    "half": SimpleNamespace(decide=every_second),
    "capitals": SimpleNamespace(cleaner=lambda options: proposed),
}


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "component", lambda kind, name: STAGES[name])


def spool(texts: list[str], stages: list[str], folder: Path) -> tuple[list[str], list[int], list[cleaning.Step]]:
    rows = [(Text(origin=Origin("a.txt", line), text=text), line % 3 - 1) for line, text in enumerate(texts, 1)]
    chosen = [Component(name=name, options=NoOptions()) for name in stages]
    dataset, roles, steps = cleaning.spool(rows, chosen, folder, lambda event: None)
    return [row.prompt_text() for row in dataset], roles.tolist(), steps


def test_rows_and_their_roles_stay_together_through_all_kinds_of_stages(tmp_path: Path) -> None:
    texts, roles, steps = spool(["a1", "ab2", "3b", "x4", "a", "6"], ["a", "half", "b", "half"], tmp_path)
    assert (texts, roles) == (["x4"], [0])
    assert [(step.rows, step.changed, step.dropped) for step in steps] == [(6, 2, 1), (5, 0, 3), (2, 1, 0), (2, 0, 1)]
    assert sorted(path.name for path in tmp_path.glob("*")) == [
        ".removed.jsonl",
        "changed.jsonl",
        "index.columns",
        "rows.jsonl",
    ]


def test_a_text_of_which_nothing_is_left_goes_and_a_blank_one_stays(tmp_path: Path) -> None:
    texts, _, (step,) = spool(["aa", " ", "ab"], ["a"], tmp_path)
    assert texts == [" ", "b"]
    assert step.reasons == {cleaning.EMPTIED: 1}
    assert [entry["record"]["text"] for entry in entries(tmp_path / REMOVED)] == ["aa"]
    assert [(entry["row"], entry["before"], entry["after"]) for entry in entries(tmp_path / CHANGED)] == [
        ("a.txt:3", {"text": "ab"}, {"text": "b"})
    ]


def test_a_suggestion_leaves_the_row(tmp_path: Path) -> None:
    texts, _, (step,) = spool(["u"], ["capitals"], tmp_path)
    assert texts == ["u"]
    assert (step.suggested, step.changed, step.examples) == (
        1,
        0,
        [{"row": "a.txt:1", "before": {"text": "u"}, "after": {"text": "U"}}],
    )
