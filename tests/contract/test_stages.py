"""What every cleaning stage promises; a new stage is covered by this file the moment it exists, and needs an entry in CASES."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sartor import registry
from sartor.data.cleaning import spool
from sartor.data.ledger import CHANGED, REMOVED, SUGGESTED, Step, entries, undo
from sartor.data.rows import Example, Judged, Message, Origin, Preference, Row, Text, row_from_json
from sartor.options import Options
from sartor.recipe.schema import Component
from sartor.recipe.shape import knobs

NAMES = registry.names("stage")
ASK, SAY = Message("user", "Where  is my card? \r\n"), Message("assistant", "On its way.\n\n\n\nSoon. ")


def asked(*pairs: tuple[str, str]) -> list[Row]:
    """Prompts and answers."""
    return [
        Example(origin=Origin("a.jsonl", line), messages=(Message("user", prompt), Message("assistant", answer)))
        for line, (prompt, answer) in enumerate(pairs, 1)
    ]


def labelled(*pairs: tuple[str, str]) -> list[Row]:
    """Texts and labels."""
    return [replace(row, label=row.answer_text(), stratum=row.answer_text()) for row in asked(*pairs)]  # type: ignore[call-arg]


def every_kind() -> list[Row]:
    """Some rows of every kind, with what stages look for: spaces, markup, twins, addresses, slips."""
    odd = "<p>Caf\u00c3\u00a9  &amp; bar</p> bob@example.org +41 44 668 18 00 https://example.org/a?b=c \u202e teh recieve"
    rows: list[Row] = [
        Example(origin=Origin("a.jsonl", 0), messages=(ASK, SAY)),
        Example(origin=Origin("a.jsonl", 0), messages=(Message("system", odd), ASK, SAY), group="g"),
        Example(
            origin=Origin("a.jsonl", 0), messages=(ASK, Message("assistant", "paid")), label="paid", stratum="paid"
        ),
        Text(origin=Origin("a.jsonl", 0), text=odd),
        Preference(origin=Origin("a.jsonl", 0), prompt=(ASK,), chosen=(SAY,), rejected=(Message("assistant", odd),)),
        Judged(origin=Origin("a.jsonl", 0), prompt=(ASK,), completion=(SAY,), liked=True),
    ]
    return [replace(row, origin=Origin("a.jsonl", line)) for line, row in enumerate(rows * 4, 1)]


CASES: Mapping[str, Sequence[tuple[Mapping[str, Any], list[Row], dict[int, str | None]]]] = {
    "whitespace": [
        ({}, asked(("a\u00a0 b ", " yes\r\n\r\n\r\n  no"), ("c", "d")), {1: "a  b\nyes\n\n  no"}),
        ({"inside": True}, asked(("a  b", "c\n  d")), {1: "a b\nc\nd"}),
        ({"on": "answer"}, asked((" a ", " b ")), {1: " a \nb"}),
    ],
}
"""Stage -> (options, rows, {line: the text afterwards, None for a row that goes}); lines that are not named stay."""

KNOBS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], list[Row]]] = {
    "whitespace.on": ({}, {"on": "prompt"}, asked(("a ", "b "))),
    "whitespace.inside": ({}, {"inside": True}, asked(("a  a", "b"))),
}
"""Option -> (options without it, options with it, rows that come out differently)."""


def run(name: str, options: Mapping[str, Any], rows: Sequence[Row], folder: Path) -> tuple[dict[int, Row], Step]:
    """The rows that stay by their lines, and what was done."""
    stage = Component(name=name, options=registry.component("stage", name).Options.model_validate(dict(options)))
    dataset, roles, steps = spool([(row, -1) for row in rows], [stage], folder, lambda event: None)
    assert len(roles) == len(dataset)
    return {row.origin.line: replace(row, id=None) for row in dataset}, steps[0]


def told(row: Row) -> str:
    """Prompt and answer of a row."""
    return f"{row.prompt_text()}\n{row.answer_text()}"


@pytest.mark.parametrize("name", NAMES)
def test_shape_of_the_module(name: str) -> None:
    module = registry.component("stage", name)
    assert issubclass(module.Options, Options)
    assert hasattr(module, "cleaner") != hasattr(module, "decide"), "one of the two"
    assert f"clean: [{name}]" in module.__doc__ or f"clean: [{{{name}: " in module.__doc__, "the docstring shows how"


def test_every_stage_has_a_case() -> None:
    assert set(CASES) == set(NAMES)


@pytest.mark.parametrize(("name", "number"), [(name, number) for name in CASES for number in range(len(CASES[name]))])
def test_rows_come_out_as_expected(name: str, number: int, tmp_path: Path) -> None:
    options, rows, expected = CASES[name][number]
    kept, step = run(name, options, rows, tmp_path)
    wanted = {row.origin.line: told(row) for row in rows}
    wanted |= {line: text for line, text in expected.items() if text is not None}
    gone = {line for line, text in expected.items() if text is None}
    assert {line: told(row) for line, row in kept.items()} == {
        line: text for line, text in wanted.items() if line not in gone
    }
    assert (step.rows, step.dropped) == (len(rows), len(gone))


def test_every_option_has_a_probe() -> None:
    assert set(KNOBS) == {key.removeprefix("data.clean[].") for key in knobs() if key.startswith("data.clean[].")}


@pytest.mark.parametrize("key", KNOBS)
def test_an_option_acts(key: str, tmp_path: Path) -> None:
    plain, changed, rows = KNOBS[key]
    name = key.partition(".")[0]
    one, two = run(name, plain, rows, tmp_path / "one"), run(name, changed, rows, tmp_path / "two")
    suggested = [[entry["after"] for entry in entries(tmp_path / side / SUGGESTED)] for side in ("one", "two")]
    assert one != two or suggested[0] != suggested[1]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_accounted_for_and_can_be_put_back(name: str, tmp_path: Path) -> None:
    rows = every_kind()
    kept, step = run(name, {}, rows, tmp_path)
    removed, changed = list(entries(tmp_path / REMOVED)), list(entries(tmp_path / CHANGED))
    assert (step.rows, step.dropped, step.changed) == (len(rows), len(removed), len(changed))
    assert sum(step.reasons.values()) == step.dropped + step.suggested
    assert all(entry["reason"] and entry["rule"] == f"clean.{name}" for entry in removed)
    back = {entry["line"]: row_from_json(entry["record"]) for entry in removed}
    back |= {entry["line"]: undo(kept[entry["line"]], entry) for entry in changed}
    assert kept | back == {row.origin.line: row for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_rows_decides_nothing(name: str, tmp_path: Path) -> None:
    rows = every_kind()
    shuffled = random.Random(5).sample(rows, len(rows))
    one, _ = run(name, {}, rows, tmp_path / "one")
    two, _ = run(name, {}, shuffled, tmp_path / "two")
    contents = [sorted(row.content_hash() for row in kept.values()) for kept in (one, two)]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", NAMES)
def test_twice_is_once(name: str, tmp_path: Path) -> None:
    kept, _ = run(name, {}, every_kind(), tmp_path / "one")
    again, step = run(name, {}, list(kept.values()), tmp_path / "two")
    assert again == kept
    assert (step.dropped, step.changed) == (0, 0)
