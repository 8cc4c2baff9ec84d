"""Rows with a number, several labels, or a tag for each word: what everything that walks over rows makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sartor import registry
from sartor.data.formats._columns import suggest
from sartor.data.formats._fields import BadRow
from sartor.data.making import prompts, with_prompts
from sartor.data.outcome import texts, with_texts
from sartor.data.release import plain
from sartor.data.rows import Labelled, Origin, Row, Scored, Tagged
from sartor.data.wording import answered, asked
from sartor.data.writing import as_ours

ORIGIN = Origin("a.jsonl", 1)
RECORDS: dict[str, dict[str, Any]] = {
    "scored": {"sentence1": "A plane.", "sentence2": "An aircraft.", "score": 4.2, "day": 3},
    "multilabel": {"text": "Charged twice!", "labels": ["billing", "urgent"], "day": 3},
    "tagged": {"tokens": ["Ada", "wrote"], "tags": ["B-PER", "O"], "day": 3},
}


def row(name: str) -> Row:
    record = RECORDS[name]
    form = registry.component("format", name)
    made: Row = form.parse(record, ORIGIN)
    return replace(made, columns={"day": 3})


@pytest.mark.parametrize("name", RECORDS)
def test_a_row_is_written_as_it_was_read(name: str) -> None:
    assert as_ours(row(name)) == RECORDS[name]
    assert plain(row(name)) == RECORDS[name]
    again = registry.component("format", name).parse(json.loads(json.dumps(as_ours(row(name)))), ORIGIN)
    assert again.content_hash() == registry.component("format", name).parse(RECORDS[name], ORIGIN).content_hash()


def test_what_is_asked_and_answered() -> None:
    told = {name: (asked(row(name)), answered(row(name))) for name in RECORDS}
    assert told == {
        "scored": ("A plane.\n\nAn aircraft.", "4.2"),
        "multilabel": ("Charged twice!", "billing, urgent"),
        "tagged": ("Ada wrote", "B-PER O"),
    }


def test_a_pair_is_one_turn_of_a_conversation() -> None:
    pair = row("scored")
    assert isinstance(pair, Scored)
    assert pair.texts() == ("A plane.", "An aircraft.")
    assert [turn.role for turn in pair.conversation().messages] == ["user", "assistant"]
    assert pair.conversation().messages[0].content == "A plane.\n\nAn aircraft."


def test_cleaning_changes_texts_and_labels_but_no_number_and_no_tag() -> None:
    pair, labelled, tagged = (with_texts(row(name), str.upper) for name in RECORDS)
    assert isinstance(pair, Scored)
    assert (pair.texts(), pair.score, pair.answer_text()) == (("A PLANE.", "AN AIRCRAFT."), 4.2, "4.2")
    assert isinstance(labelled, Labelled)
    assert (labelled.labels, labelled.answer_text()) == (("BILLING", "URGENT"), "BILLING, URGENT")
    assert isinstance(tagged, Tagged)
    assert (tagged.tokens, tagged.tags) == (("ADA", "WROTE"), ("B-PER", "O"))
    emptied = with_texts(row("tagged"), lambda text: "")
    assert emptied == row("tagged"), "a word is never lost, for its tag would go to another"
    for name in RECORDS:
        assert with_texts(row(name), str) is row(name) or with_texts(row(name), str) == row(name)
        assert with_texts(row(name), str.upper, on="answer").prompt_text() == row(name).prompt_text()
    assert texts(row("scored")) == ["A plane.", "An aircraft."]


def test_rows_are_made_from_texts_only() -> None:
    assert prompts(row("scored")) == ["A plane.", "An aircraft."]
    assert with_prompts(row("tagged"), str.upper) == row("tagged")


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("scored", {"text": "a", "score": "many"}),
        ("scored", {"text": "a", "score": True}),
        ("scored", {"text": "a", "score": float("inf")}),
        ("scored", {"sentence1": "a", "score": 1}),
        ("multilabel", {"text": "a", "labels": "one"}),
        ("multilabel", {"text": "a", "labels": ["one", ""]}),
        ("tagged", {"tokens": ["a", "b"], "tags": ["O"]}),
        ("tagged", {"tokens": [], "tags": []}),
    ],
)
def test_what_is_no_such_row_is_refused(name: str, record: dict[str, Any]) -> None:
    with pytest.raises(BadRow):
        registry.component("format", name).parse(record, ORIGIN)


def test_a_rated_text_of_the_web_is_raw_text() -> None:
    page = {"text": "Apples.", "url": "https://example.org", "score": 2.5}
    assert [name for name in registry.names("format") if registry.component("format", name).detects(page)] == ["text"]


def test_columns_of_a_pair_are_guessed() -> None:
    assert suggest({"a": "x y", "b": "z", "score": 2.5}) == {"sentence1": "a", "sentence2": "b", "score": "score"}
