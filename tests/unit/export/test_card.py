from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from sartor.evaluate.facts import Cleaned, DataFacts, DataFile, Dropped, Made, ReportFacts
from sartor.export.card import model_card
from sartor.markdown import text

example = runpy.run_path(str(Path(__file__).parents[1] / "evaluate" / "example.py"))
facts: Callable[..., ReportFacts] = example["facts"]


def front(card: str) -> dict[str, object]:
    _, matter, _ = card.split("---\n", 2)
    found: dict[str, object] = yaml.safe_load(matter)
    return found


def test_front_matter_says_what_a_hub_needs() -> None:
    found = front(model_card(facts(license="apache-2.0")))
    assert found["base_model"] == "sartor/nano"
    assert found["library_name"] == "peft"
    assert found["base_model_relation"] == "adapter"
    assert found["license"] == "apache-2.0"
    assert found["datasets"] == ["tickets.jsonl", "archive.csv.gz"]
    whole = front(model_card(facts(method="full")))
    assert whole["library_name"] == "transformers"
    assert "license" not in whole


def test_tells_purpose_data_scores_and_failed_gates() -> None:
    card = model_card(facts())
    for told in (
        "Turn a support ticket into our triage JSON",
        "1,117 rows: 893 train, 112 validation, 112 test",
        "| field_f1 ↑ | 0.176 [0.125 to 0.229]",
        "| perplexity ↓ |",
        "- **failed**: exact_match at least 0.8",
        "rows changed by each stage: unicode 12.",
        "Left out, 106 rows in all:",
        "- 9 rows, D120: empty answer",
        "- 96 rows, clean.duplicates: says the same",
        "- 1 row, too_long",
        "240 by synonyms from 201.",
        "AutoPeftModelForCausalLM.from_pretrained(folder)",
        "| train.epochs | 3 |",
        "weights kept from step | 100",
    ):
        assert told in card, told


def test_limits_name_what_got_worse() -> None:
    given = facts(test_accesses=4)
    metric = given.comparison["metrics"][0]
    worse = {**metric, "differences": {"base": {**metric["differences"]["base"], "word": "worse"}}}
    card = model_card(replace(given, comparison={**given.comparison, "metrics": [worse], "small": True}))
    assert "- Worse in field_f1 than base." in card
    assert "opened more than once for each model" in card
    assert "are a hint" in card


def test_no_text_of_the_user_breaks_out() -> None:
    evil = "x\n---\n# Title | cell <script> [a](javascript:b) `code` \u202e _it_"
    card = model_card(
        facts(
            title=evil,
            statement=evil,
            base=evil,
            data=DataFacts(
                [DataFile(evil, evil, 1)],
                1,
                {"train": 1},
                [Dropped(evil, evil, 1)],
                [Cleaned(evil, 1, 1, 1, 1)],
                [Made(evil, 1, 1)],
            ),
            environment={evil: evil},
        )
    )
    assert str(front(card)["base_model"]).startswith("x --- # Title")
    assert front(card)["tags"] == ["sartor"]
    body = card[card.index("\n# ") :]
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert "\u202e" not in card
    assert "\n---\n" not in body
    assert "](javascript" not in body.replace("\\](", "")
    assert text("a_b _c_ 1*2") == "a_b \\_c\\_ 1\\*2"


def test_little_is_enough() -> None:
    given = facts()
    small = ReportFacts("t", {"sentence": "s", "gates": []}, {**given.comparison, "flips": None})
    assert "no goal was written down" in model_card(small)
