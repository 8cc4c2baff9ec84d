from __future__ import annotations

import base64
import hashlib
import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sartor.evaluate import curves
from sartor.evaluate.facts import Cleaned, Curve, DataFacts, DataFile, Dropped, Made, ReportFacts, Said, Sample, Setting
from sartor.evaluate.report import LONGEST, report, sentence, short, spread

example = runpy.run_path(str(Path(__file__).with_name("example.py")))
facts: Callable[..., ReportFacts] = example["facts"]

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \"'&{{ 'a'*5 }} \u202egnp.exe\x1b[31m\x00 \ud800"
VOID = {"meta", "br", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Collects tags and text, and insists that every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page(**changes: Any) -> Page:
    return Page(report(facts(**changes)))


def test_opens_with_the_verdict_and_holds_every_part() -> None:
    found = page()
    words = found.words
    assert words.index("The tuned model is better than its base on 112 test rows") < words.index("Scores")
    for told in (
        "✗ failed",
        "Goal: Turn a support ticket into our triage JSON",
        "96.7 to 100 %",
        "tuned − few-shot",
        "a true difference to base would be seen four times out of five",
        "Kept the weights of step 100. Validation turned at step 110",
        "data/tickets.jsonl:15",
        "same as data/tickets.jsonl:3",
        "test rows opened 3 times, for 3 models",
        "max 0.740",
        "empty answer",
        "LoRA of rank 16 on 6.5M parameters",
        "6 min 42 s",
        "memory at its peakabout 2.30 GB2.10 GBactivations 1.1 GB",
        "training, 189 steps2 min to 15 min6 min 42 sguessed from 2 cores",
        "evaluation60 s to 1.5 min–measured in 3 runs here",
        "31 of 74 tokens are learnt",
        "bfloat16 is slow on this processor",
    ):
        assert told in words, told


def test_needs_no_network_and_no_script_and_its_style_may_run() -> None:
    html = report(facts())
    found = Page(html)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object", "form"}
    for tag, attributes in found.tags:
        assert not attributes.keys() & {"src", "style", "srcset", "action"}, tag
        assert attributes.get("href", "#").startswith("#"), "only places of this page"
        assert not any(name.startswith("on") for name in attributes)
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy is not None
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in found.tags


def hostile() -> ReportFacts:
    given = facts()
    comparison = {**given.comparison, "models": ["base", "few_shot", "tuned"]}
    metric = {**comparison["metrics"][0], "name": HOSTILE}
    flip = dict.fromkeys(("id", "prompt", "reference", "before", "after"), HOSTILE) | {
        "score_before": 0.0,
        "score_after": 1.0,
    }
    comparison["metrics"] = [metric]
    comparison["flips"] = {
        "metric": HOSTILE, "decided": False, "better": [flip] * 4, "worse": [flip], "better_count": 9, "worse_count": 1
    }  # fmt: skip
    gate = {"metric": HOSTILE, "rule": HOSTILE, "value": 1, "low": 0, "high": 1, "pass": True, "note": HOSTILE}
    finding = {"code": HOSTILE, "level": HOSTILE, "file": HOSTILE, "line": 3, "message": HOSTILE, "fix": HOSTILE}
    return ReportFacts(
        title=HOSTILE,
        verdict={"pass": True, "sentence": HOSTILE, "gates": [gate]},
        comparison=comparison,
        statement=HOSTILE,
        task=HOSTILE,
        base=HOSTILE,
        method=HOSTILE,
        created=HOSTILE,
        curves=[
            Curve(HOSTILE, [(1, 1.0)], [(1, 1.0)], {HOSTILE: [(1, 1.0)]}, 1, 1, HOSTILE, [Said(HOSTILE, HOSTILE, 1.0)])
        ],
        data=DataFacts(
            [DataFile(HOSTILE, HOSTILE, 1)],
            1,
            {HOSTILE: 1},
            [Dropped(HOSTILE, HOSTILE, 1)],
            [Cleaned(HOSTILE, 1, 1, 1, 1)],
            [Made(HOSTILE, 1, 1)],
            {HOSTILE: 0.5},
            [finding],
        ),
        settings=[Setting(HOSTILE, [HOSTILE], HOSTILE)],
        environment={HOSTILE: {"x": HOSTILE}},
        timing={HOSTILE: 1.0},
        samples=[Sample(HOSTILE, [(HOSTILE, 1.0)])],
        notes=[HOSTILE],
    )


def test_no_text_of_the_user_becomes_markup() -> None:
    html = report(hostile())
    found = Page(html)
    assert not {tag for tag, _ in found.tags} & {"script", "img"}
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    for raw in ("\u202e", "\x1b", "\x00", "\ud800"):
        assert raw not in html
    assert "\\u202egnp.exe\\u001b[31m\\u0000" in found.text
    assert "aaaaa" not in found.text
    html.encode("utf-8")


def test_joiners_of_words_and_emoji_stay() -> None:
    assert "می‌خواهم 👩‍🚀" in report(facts(statement="می‌خواهم 👩‍🚀"))


@pytest.mark.parametrize(
    "changes",
    [
        {
            "curves": [Curve()],
            "data": DataFacts(),
            "settings": (),
            "samples": (),
            "notes": (),
            "environment": {},
            "timing": {},
        },
        {"curves": [Curve(train=[(1, float("nan"))], validation=[(1, None)])]},
        {"curves": [Curve(train=[(5, 1.0)], validation=[], chosen=5)]},
        {"statement": "", "test_accesses": None, "foreseen": []},
        {"verdict": {"pass": True, "sentence": "Measured.", "gates": []}},
    ],
)
def test_parts_may_be_missing(changes: dict[str, Any]) -> None:
    assert page(**changes).words


def test_one_model_or_few_rows_or_nothing_measured() -> None:
    given = facts()
    alone = {
        **given.comparison,
        "models": ["m"],
        "subject": "m",
        "flips": None,
        "rows": 3,
        "small": True,
        "metrics": [],
    }
    words = page(comparison=alone).words
    assert "Only 3 test rows" in words
    bare = {**given.comparison["metrics"][0], "scores": {}, "differences": {}, "detectable": None}
    assert "–" in page(comparison={**given.comparison, "metrics": [bare]}).words


def test_opened_more_than_once_is_told() -> None:
    assert "opened more than once for each model" in page(test_accesses=4).words


def test_long_texts_are_cut_and_say_so() -> None:
    assert short("x" * LONGEST) == "x" * LONGEST
    assert short("x" * (LONGEST + 3456)).endswith("(3,456 more characters)")
    sample = Sample("t", [("y" * 50_000, 1.0)])
    assert len(report(facts(samples=[sample]))) < 60_000


def picture(drawn: str) -> ET.Element:
    return ET.fromstring(drawn)


def coordinates(element: ET.Element) -> list[float]:
    return [float(value) for value in re.findall(r"-?[\d.]+", element.get("points", ""))]


def test_a_curve_stays_in_its_frame_and_marks_step_and_turn() -> None:
    train = [(step, 5.0 / step) for step in range(1, 2000)]
    drawn = picture(curves.curve(train, [(500, 0.3), (1000, 0.4)], chosen=500, turned=1000, width=700, height=300))
    lines = [element for element in drawn if element.tag == "polyline"]
    assert [line.get("class") for line in lines] == ["line train", "line validation"]
    points = coordinates(lines[0])
    assert len(points) // 2 <= curves.MOST_POINTS
    assert all(0 <= x <= 700 for x in points[::2])
    assert all(0 <= y <= 300 for y in points[1::2])
    assert points[1] < points[-1]
    turned = next(element for element in drawn if element.get("class") == "turned")
    kept = next(element for element in drawn if element.get("class") == "kept")
    assert float(kept.get("x1", "nan")) < float(turned.get("x", "nan"))
    assert "kept: step 500" in [element.text for element in drawn]


def test_bars_put_values_in_order_and_switch_to_a_logarithmic_axis() -> None:
    def dots(scores: dict[str, tuple[float, float, float]], share: bool) -> list[float]:
        given = {name: dict(zip(("low", "value", "high"), bounds, strict=True)) for name, bounds in scores.items()}
        drawn = picture(curves.bars(given, share=share))
        return [float(e.get("cx", "nan")) for e in drawn if e.tag == "circle"]

    assert dots({"a": (0.0, 0.5, 1.0)}, True) == [120.0]
    low, middle, high = dots({"a": (1, 1, 1), "b": (10, 10, 10), "c": (100, 100, 100)}, False)
    assert middle - low == pytest.approx(high - middle)
    low, middle, high = dots({"a": (1, 1, 1), "b": (2, 2, 2), "c": (3, 3, 3)}, False)
    assert middle - low == pytest.approx(high - middle)
    assert len(dots({"a": (0.4, 0.4, 0.4)}, False)) == 1
    assert curves.bars({"a": {"low": None, "value": 1.0, "high": 2.0}}, share=False) == ""


@pytest.mark.parametrize(("low", "high"), [(0.0, 3.1), (2.4, 2.41), (1.0, 1.0), (1, 12_345), (-4.0, 1e9)])
def test_ticks_are_round_and_cover(low: float, high: float) -> None:
    ticks = curves._ticks(low, high, 4)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 8


def test_shares_fill_the_bar() -> None:
    drawn = picture(curves.shares({"train": 80, "validation": 10, "test": 10}, width=100))
    assert [float(part.get("x", "nan")) for part in drawn] == [0.0, 80.0, 90.0]
    assert curves.shares({}) == ""


def test_a_classification_shows_its_labels(tmp_path: Path) -> None:
    given = facts()
    flips = {**given.comparison["flips"], "decided": True}
    words = Page(report(replace(given, comparison={**given.comparison, "flips": flips}))).words
    assert "Wrong before, right now: " in words


def test_defaults_stand_behind_what_was_decided() -> None:
    settings = [
        Setting("a.b", 3, "set in recipe.yaml:2"),
        Setting("c", None, "default: nothing"),
        Setting("d", 1, "default"),
    ]
    html = report(facts(settings=settings))
    decided, usual = html.split("2 more at their default")
    assert "a.b" in decided
    assert "a.b" not in usual
    assert "<code>–</code>" in usual


def test_facts_of_the_environment_are_spread_on_lines() -> None:
    given = {"memory_bytes": 25_276_502_016, "libraries": {"torch": "2.13", "numpy": "2.4"}, "gpus": [], "cores": 2}
    assert list(spread(given)) == [
        ("memory", "25.28 GB"),
        ("libraries", "torch 2.13, numpy 2.4"),
        ("gpus", "none"),
        ("cores", "2"),
    ]
    assert [sentence(text) for text in ("took every step", "Done.", "")] == ["Took every step.", "Done.", ""]


@pytest.mark.parametrize(("low", "high"), [(0.05, 8.3), (0.1, 5.0), (1e-9, 3.0), (2.0, 90.0)])
def test_decades_cover_and_are_few(low: float, high: float) -> None:
    marks = curves._decades(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert marks == sorted(marks)
    assert 2 <= len(marks) <= 12


def test_a_long_fall_is_drawn_on_a_logarithmic_axis() -> None:
    def heights(last: float) -> list[float]:
        drawn = picture(
            curves.curve([(1, 10.0), (2, 1.0), (3, last)], [], chosen=None, turned=None, width=700, height=300)
        )
        return coordinates(next(e for e in drawn if e.tag == "polyline"))[1::2]

    first, second, third = heights(0.1)
    assert second - first == pytest.approx(third - second, abs=0.3)
    first, second, third = heights(0.5)
    assert second - first > 5 * (third - second)


def test_tables_of_details_are_shown_for_each_model() -> None:
    table = {
        "metric": "macro_f1",
        "title": "Each label by itself",
        "columns": ["label", "value", "rows"],
        "models": {
            "base": {"rows": [["<b>refund</b>", None, 1200]], "note": ""},
            "tuned": {"rows": [["<b>refund</b>", 0.87654, 1200]], "note": "and 3 more"},
        },
    }
    text = report(replace(facts(), comparison={**facts().comparison, "details": [table]}))
    shown = text[text.index("<summary>Each label by itself") :].partition("</details>")[0]
    assert "&lt;b&gt;refund&lt;/b&gt;" in shown
    assert [cell for cell in ("0.877", "1,200", "–", "and 3 more") if cell not in shown] == []
