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


def paged(footer: str) -> list[Row]:
    """Raw texts that end alike."""
    words = "sun moon star tree rock wave wind fire"
    return [Text(origin=Origin("a.jsonl", at), text=f"On {word}\n{footer}") for at, word in enumerate(words.split(), 1)]


def long_and_usual(longest: int) -> list[Row]:
    """Forty prompts and answers of usual length, and one answer of `longest` characters."""
    usual = [(f"{'w' * (20 + n % 7)} {n}", f"{'v' * (30 + n % 9)} {n}") for n in range(40)]
    return asked(*usual, ("What is the usual prompt?", "v" * longest))


def under_two_labels() -> list[Row]:
    """Forty short texts under one label, forty long ones under another, and a short one among the long."""
    texts = [(f"{'a' * 8} {n}", "short") for n in range(40)] + [(f"{'b' * 900} {n}", "long") for n in range(40)]
    return labelled(*texts, ("a short one", "long"))


NEARLY = (
    "the red ship sails at noon from the old port to the far island with salt, rope, tar and one quiet cat on board"
)
PAID = [*[(f"bill {n}", "paid") for n in range(20)], ("bill x", "piad"), ("bill y", "Paid"), ("bill z", "open")]
DATED = [
    replace(row, columns={"day": day})
    for row, day in zip(asked(("q", "a"), ("q", "b")), ("2026-02", "2026-01"), strict=True)
]
GERMAN, FRENCH = "Das ist ein ziemlich langer deutscher Satz.", "Voici une phrase assez longue en fran\u00e7ais."
SLIPS = asked(("I beleive the goverment will reply", "The langauge of Frnace is said to be `funtcion` kubelet"))

HIRING = (
    ("She sings", "yes"), ("He sings", "yes"), ("He swims", "no"), ("She cooks", "no"), ("She paints", "no"), ("They eat", "no"),
)  # fmt: skip

CASES: Mapping[str, Sequence[tuple[Mapping[str, Any], list[Row], dict[int, str | None]]]] = {
    "boilerplate": [
        (
            {},
            paged("Read more on page two"),
            {n: f"{row.prompt_text().split(chr(10))[0]}\n" for n, row in enumerate(paged(""), 1)},
        ),
        ({}, paged("Two words")[:4], {}),
        ({}, asked(("Where is it?\nSent from my iPhone", "a"), ("Sent from my iPhone", "b")), {1: "Where is it?\na"}),
        (
            {"known": False, "lines": ["bye  NOW"]},
            asked(("Where?\nBye now\nSent from my iPhone", "a")),
            {1: "Where?\nSent from my iPhone\na"},
        ),
    ],
    "conflicts": [
        (
            {},
            asked(("q", "a"), ("Q ", "a"), ("q", "b"), ("r", "c"), ("r", "d"), ("s", "e")),
            {3: None, 4: None, 5: None},
        ),
        ({"keep": "drop"}, asked(("q", "a"), ("q", "a"), ("q", "b"), ("s", "e")), {1: None, 2: None, 3: None}),
        ({"keep": "newest"}, asked(("q", "a"), ("q", "a"), ("q", "b")), {1: None, 2: None}),
        ({"keep": "newest", "by": "day"}, DATED, {2: None}),
        ({}, asked(("q", "a" * 61), ("q", "b")), {}),
    ],
    "duplicates": [
        ({}, asked(("a b", "yes"), ("A  b", "YES"), ("a b", "no")), {1: None}),
        ({}, labelled((NEARLY, "sea"), (NEARLY, "land")), {}),
        ({"similarity": 0.8}, asked((NEARLY, "No dog"), (f"{NEARLY}!", "No dog, is there."), ("c", "d")), {1: None}),
    ],
    "balance_groups": [
        ({"least": 2}, labelled(*HIRING), {5: None}),
        ({}, labelled(*HIRING), {}),
        (
            {"attribute": "age", "least": 1},
            labelled(("young a", "x"), ("old b", "y"), ("she", "x")),
            {1: None, 2: None},
        ),
    ],
    "html": [
        (
            {},
            asked(("<p>a &amp; b</p><ul><li>c</li><li>d</li></ul><script>x</script>", "if a < b: List<int>")),
            {1: "a & b\n\n- c\n- d\nif a < b: List<int>"},
        ),
        ({"links": True}, asked(('<a href="https://x.org">x</a>', "`<b>`")), {1: "x (https://x.org)\n`<b>`"}),
        ({}, asked(("<b>a</b>", '{"a": "<b>b</b>"}')), {1: 'a\n{"a": "<b>b</b>"}'}),
    ],
    "labels": [
        ({}, labelled(*PAID), {}),
        ({"repair": True}, labelled(*PAID), {21: "bill x\npaid", 22: "bill y\npaid"}),
        ({"merge": {"open": "due"}, "drop": ["due"]}, labelled(*PAID), {23: None}),
        ({"merge": {"piad": "paid"}}, labelled(*PAID), {21: "bill x\npaid"}),
    ],
    "language": [
        ({}, asked((GERMAN, "ok"), ("This is a rather long English sentence.", "ok"), ("Hallo", "ja")), {1: None}),
        ({"keep": ["de"], "on": "answer"}, asked(("Is this an English question of some length?", GERMAN)), {}),
    ],
    "length": [
        ({}, asked((" ", "a"), ("b", "c")), {1: None}),
        (
            {"unit": "words", "prompt_min": 2, "answer_max": 3},
            asked(("a b", "c d e"), ("a b", "c d e f"), ("a", "b")),
            {2: None, 3: None},
        ),
    ],
    "markdown": [
        (
            {},
            asked(("# Title\n\n**a** *b* `c*d*` [e](https://f.org)", "2 * 3 * 4 snake_case_x")),
            {1: "Title\n\na b c*d* e\n2 * 3 * 4 snake_case_x"},
        ),
        (
            {"links": True, "on": "answer"},
            asked(("*a*", "[e](https://f.org)\n```\n*x*\n```")),
            {1: "*a*\ne (https://f.org)\n*x*"},
        ),
        ({}, asked(("| a | b |\n|---|---|\n| 1 | 2 |", '["*a*"]')), {1: 'a\tb\n1\t2\n["*a*"]'}),
    ],
    "outliers": [
        ({}, long_and_usual(9000), {41: None}),
        ({}, long_and_usual(9000)[-20:], {}),
        ({}, under_two_labels(), {81: None}),
    ],
    "redact": [
        (
            {},
            asked(("I am bob@example.org", "BOB@example.org, 8.8.8.8, v1.2.3.4")),
            {1: "I am [EMAIL_bce941]\n[EMAIL_bce941], [IP_57a53e], v1.2.3.4"},
        ),
        ({"what": ["phone"], "action": "drop"}, asked(("Call +41 44 668 18 00", "a"), ("b", "12345678")), {1: None}),
    ],
    "spelling": [
        ({}, SLIPS, {}),
        (
            {"rewrite": True},
            SLIPS,
            {1: "I believe the government will reply\nThe language of Frnace is said to be `funtcion` kubelet"},
        ),
        ({"rewrite": True}, labelled(("the label is beleive", "beleive")), {1: "the label is believe\nbeleive"}),
    ],
    "unicode": [
        ({}, asked(("caf\u00c3\u00a9 e\u0301", "a\u200bb\x07 \u202eabc\u202c")), {1: "caf\u00e9 \u00e9\nab abc"}),
        ({"form": "NFKC"}, asked(("\ufb01n \uff21", "b")), {1: "fin A\nb"}),
        (
            {},
            asked(("\U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e", "\u0915\u094d\u200d\u0937 a\u200dc")),
            {1: "\U0001f468\u200d\U0001f469 \u0645\u06cc\u200c\u062e\n\u0915\u094d\u200d\u0937 ac"},
        ),
    ],
    "whitespace": [
        ({}, asked(("a\u00a0 b ", " yes\r\n\r\n\r\n  no"), ("c", "d")), {1: "a  b\nyes\n\n  no"}),
        ({"inside": True}, asked(("a  b", "c\n  d")), {1: "a b\nc\nd"}),
        ({"on": "answer"}, asked((" a ", " b ")), {1: " a \nb"}),
    ],
}
"""Stage -> (options, rows, {line: the text afterwards, None for a row that goes}); lines that are not named stay."""

KNOBS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], list[Row]]] = {
    "boilerplate.share": ({}, {"share": 1.0}, paged("Read more on page two")),
    "boilerplate.lines": ({}, {"lines": ["bye"]}, asked(("a\nbye", "b"))),
    "boilerplate.known": ({}, {"known": False}, asked(("a\nSent from my iPhone", "b"))),
    "boilerplate.on": ({}, {"on": "answer"}, asked(("a\nSent from my iPhone", "b"))),
    "conflicts.keep": ({}, {"keep": "newest"}, asked(("q", "a"), ("q", "b"))),
    "conflicts.by": ({"keep": "newest"}, {"keep": "newest", "by": "day"}, DATED),
    "duplicates.similarity": ({}, {"similarity": 0.8}, asked((NEARLY, "a"), (f"{NEARLY}!", "a."))),
    "balance_groups.attribute": ({"least": 1}, {"attribute": "age", "least": 1}, labelled(*HIRING)),
    "balance_groups.least": ({}, {"least": 2}, labelled(*HIRING)),
    "html.on": ({}, {"on": "prompt"}, asked(("a", "<b>b</b>"))),
    "html.links": ({}, {"links": True}, asked(("<a href='u'>t</a>", "b"))),
    "labels.merge": ({}, {"merge": {"open": "due"}}, labelled(("a", "open"))),
    "labels.drop": ({}, {"drop": ["open"]}, labelled(("a", "open"))),
    "labels.repair": ({}, {"repair": True}, labelled(*PAID)),
    "language.keep": ({}, {"keep": ["de"]}, asked((GERMAN, "a"))),
    "language.confidence": ({}, {"confidence": 1.0}, asked((FRENCH + " and some English words", "a"))),
    "language.least": ({}, {"least": 200}, asked((GERMAN, "a"))),
    "language.on": ({}, {"on": "answer"}, asked((GERMAN, "a"))),
    "length.unit": ({"prompt_min": 3}, {"prompt_min": 3, "unit": "words"}, asked(("abcd", "a"))),
    "length.prompt_min": ({}, {"prompt_min": 3}, asked(("ab", "a"))),
    "length.prompt_max": ({}, {"prompt_max": 1}, asked(("ab", "a"))),
    "length.answer_min": ({}, {"answer_min": 3}, asked(("ab", "a"))),
    "length.answer_max": ({}, {"answer_max": 1}, asked(("ab", "ab"))),
    "markdown.on": ({}, {"on": "prompt"}, asked(("a", "*b*"))),
    "markdown.links": ({}, {"links": True}, asked(("[t](u)", "b"))),
    "outliers.threshold": ({}, {"threshold": 50.0}, long_and_usual(9000)),
    "outliers.side": ({}, {"side": "short"}, long_and_usual(9000)),
    "redact.what": ({}, {"what": ["phone"]}, asked(("bob@example.org", "a"))),
    "redact.action": ({}, {"action": "drop"}, asked(("bob@example.org", "a"))),
    "redact.regions": ({}, {"regions": ["CH"]}, asked(("044 668 18 00", "a"))),
    "redact.key_file": ({}, {"key_file": "keys.json"}, asked(("bob@example.org", "a"))),
    "spelling.on": ({}, {"on": "prompt"}, SLIPS),
    "spelling.words": ({}, {"words": ["beleive", "langauge", "goverment"]}, SLIPS),
    "spelling.rewrite": ({}, {"rewrite": True}, SLIPS),
    "unicode.on": ({}, {"on": "prompt"}, asked(("a", "b\u200bc"))),
    "unicode.form": ({}, {"form": "NFKC"}, asked(("\ufb01n", "a"))),
    "unicode.repair": ({}, {"repair": False}, asked(("caf\u00c3\u00a9", "a"))),
    "whitespace.on": ({}, {"on": "prompt"}, asked(("a ", "b "))),
    "whitespace.inside": ({}, {"inside": True}, asked(("a  a", "b"))),
}
"""Option -> (options without it, options with it, rows that come out differently)."""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that options name without a folder lie there."""
    monkeypatch.chdir(tmp_path)


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
    back = {entry["line"]: replace(row_from_json(entry["record"]), id=None) for entry in removed}
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
