"""What a report suggests to try next, and that each suggestion has its evidence."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sartor.evaluate.advice import RULES, next_steps
from sartor.evaluate.facts import Curve, DataFacts, Dropped, ReportFacts
from sartor.evaluate.report import report
from sartor.evaluate.report_markdown import report_markdown
from sartor.evaluate.wording import marked

facts: Callable[..., ReportFacts] = runpy.run_path(str(Path(__file__).parent / "example.py"))["facts"]


def compared(word: str, *, name: str = "accuracy", other: str = "base", value: float = 0.5) -> dict[str, Any]:
    gain = {"value": -0.1, "low": -0.2, "high": 0.1, "p": 0.4, "test": "bootstrap", "word": word, "rows_to_decide": 900}
    score = {"value": value, "low": 0.4, "high": 0.6}
    metric = {
        "name": name,
        "higher_is_better": True,
        "share": True,
        "detectable": None,
        "scores": {other: score, "tuned": score},
        "differences": {other: gain},
    }
    return {
        "rows": 100,
        "small": False,
        "confidence": 0.95,
        "resamples": 200,
        "models": [other, "tuned"],
        "subject": "tuned",
        "metrics": [metric],
        "flips": None,
        "details": [],
    }


def quiet(**changes: Any) -> ReportFacts:
    """Facts that give no reason to try anything."""
    given = ReportFacts("run", facts().verdict, compared("better"))
    return replace(given, **changes)


falling = Curve(train=[(1, 3.0), (20, 1.0)], validation=[(10, 2.0), (20, 1.5)], chosen=20)
turned = Curve(train=[(1, 3.0), (100, 1.0)], validation=[(10, 2.0), (100, 2.5)], chosen=10, turned=10)
flips = {"metric": "accuracy", "worse_count": 9, "better_count": 0, "worse": [], "better": [], "decided": True}
CASES = {
    "examples in the prompt": ({"comparison": compared("no difference seen", other="few_shot")}, "use the base with", "scores"),
    "a suite that got worse": (
        {"suites": [{"name": "general", "title": "General", "why": "", "comparison": compared("worse"), "charts": []}]},
        "mix general rows in",
        "general",
    ),
    "cut short": ({"curves": [falling]}, "train longer", "training"),
    "too long": ({"curves": [turned]}, "more rows help most", "training"),
    "broken rows": ({"comparison": {**compared("better"), "flips": flips}}, "read them", "flips"),
    "answers without an end": ({"comparison": compared("better", name="stop_rate")}, "raise evaluate.max_new_tokens", "scores"),
    "undecided": ({"comparison": compared("no difference seen")}, "measure on about 900 test rows", "scores"),
    "a warning about the data": (
        {"data": DataFacts(parts={"test": 9}, findings=[{"code": "D161", "level": "warning", "message": "twins", "fix": "leave one out", "file": "a.jsonl", "line": 3}])},
        "leave one out",
        "data",
    ),
    "many rows left out": ({"data": DataFacts(parts={"test": 9}, rows=80, dropped=[Dropped("length", "long", 20)])}, "look whether", "data"),
    "nothing learnt by heart": (
        {"data": DataFacts(parts={"train": 640}), "curves": [replace(falling, validation=[])]},
        "sartor data curve",
        "training",
    ),
}  # fmt: skip


def test_nothing_to_try_where_nothing_is_wrong() -> None:
    assert next_steps(quiet()) == []


@pytest.mark.parametrize("case", CASES)
def test_each_sign_gives_its_advice_and_points_at_a_section_that_is_there(case: str) -> None:
    changes, what, where = CASES[case]
    given = quiet(**changes)
    steps = [step for step in next_steps(given) if step.what.startswith(what)]
    assert [step.where for step in steps] == [where]
    assert f'<section id="{where}">' in report(given)
    assert steps[0].because


def test_every_rule_has_a_case() -> None:
    silent = set(RULES)
    for changes, _, _ in CASES.values():
        silent -= {rule for rule in silent if list(rule(quiet(**changes)))}
    assert not silent


def test_markdown_tells_the_same_and_no_text_breaks_out() -> None:
    told = report_markdown(facts(title="a | b"))
    assert "# a \\| b" in told
    for part in ("## Scores", "| field_f1 ↑ | 0.176 [0.125 to 0.229]", "## Rows that changed", "## What to try next"):
        assert part in told


def test_words_that_differ_are_marked_and_the_text_stays_whole() -> None:
    pieces = marked('{"queue": "billing", "urgent": true}', '{"queue": "returns", "urgent": true}')
    assert [text for text, differs in pieces if differs] == ["billing"]
    assert "".join(text for text, _ in pieces) == '{"queue": "billing", "urgent": true}'
    assert marked("", "x") == [("", False)]
    assert marked("a " * 2000, "b") == [("a " * 2000, False)]
