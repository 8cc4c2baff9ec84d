from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from sartor import registry
from sartor.data.rows import Example, Labelled, Message, Origin, Row, Scored, Tagged
from sartor.errors import DataError
from sartor.evaluate.compare import compare
from sartor.evaluate.given import Given

AT = Origin("data.jsonl", 3)
TURNS = (Message("user", "Where?"), Message("assistant", "Here"))


def read(folder: Path, records: Sequence[Mapping[str, Any]]) -> Given:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return Given.read(path, "answers.jsonl")


def test_answers_are_found_by_id_then_by_prompt(tmp_path: Path) -> None:
    given = read(tmp_path, [{"id": "a", "prediction": "Here"}, {"prompt": "Where?", "prediction": "There"}])
    rows = [Example(origin=AT, id=name, messages=TURNS) for name in ("a", "b")]
    given.require(rows)
    assert [outcome.prediction for outcome in given.outcomes(rows)] == ["Here", "There"]
    assert [outcome.reference for outcome in given.outcomes(rows)] == ["Here", "Here"]
    by_line = read(tmp_path, [{"id": "data.jsonl:3", "prediction": "x"}])
    assert by_line.of(Example(origin=AT, messages=TURNS)) == "x"


def test_a_record_with_an_id_is_found_by_its_prompt_too_where_that_says_one_thing(tmp_path: Path) -> None:
    row = Example(origin=AT, id="elsewhere", messages=TURNS)
    one = {"id": "a", "prompt": "Where?", "prediction": "Here"}
    assert read(tmp_path, [one, {**one, "id": "b"}]).of(row) == "Here"
    assert read(tmp_path, [one, {**one, "id": "b", "prediction": "There"}, {**one, "id": "c"}]).of(row) is None


@pytest.mark.parametrize(
    ("row", "answer", "field", "told"),
    [
        (Scored(origin=AT, messages=TURNS, score=1.0), 2.5, "value", 2.5),
        (Labelled(origin=AT, messages=TURNS, labels=("a", "b")), ["b"], "labels", ["b"]),
        (Labelled(origin=AT, messages=TURNS, labels=("a", "b")), "b, a", "labels", ["b", "a"]),
        (Tagged(origin=AT, tokens=("Ada", "wrote"), tags=("B-PER", "O")), ["B-PER", "O"], "tags", ["B-PER", "O"]),
        (Tagged(origin=AT, tokens=("Ada", "wrote"), tags=("B-PER", "O")), "B-PER O", "tags", ["B-PER", "O"]),
    ],
)
def test_answers_of_every_kind(tmp_path: Path, row: Row, answer: Any, field: str, told: Any) -> None:
    given = read(tmp_path, [{"id": "data.jsonl:3", "prediction": answer}])
    given.require([row])
    (outcome,) = given.outcomes([row])
    assert getattr(outcome, field) == told


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([{"id": "z", "prediction": "x"}], "1 test rows have no prediction here: data.jsonl:3"),
        ([{"prediction": "x"}], "without id and without prompt"),
        ([{"id": "a"}], "without prediction"),
        ([{"id": "a", "prediction": "x"}, {"id": "a", "prediction": "y"}], "two different predictions"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, records: list[dict[str, Any]], wanted: str) -> None:
    with pytest.raises(DataError, match=wanted):
        read(tmp_path, records).require([Example(origin=AT, messages=TURNS)])


def test_tags_are_as_many_as_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 words, and 1 tags"):
        read(tmp_path, [{"id": "data.jsonl:3", "prediction": "O"}]).require(
            [Tagged(origin=AT, tokens=("Ada", "wrote"), tags=("B-PER", "O"))]
        )


def test_what_a_system_did_not_tell_is_not_measured(tmp_path: Path) -> None:
    """Of likelihoods and probabilities nothing is known."""
    rows = [Example(origin=Origin("data.jsonl", line), messages=TURNS, label="Here") for line in range(12)]
    given = read(tmp_path, [{"prompt": "Where?", "prediction": "Here"}]).outcomes(rows)
    metrics = [registry.component("metric", name).METRIC for name in ("accuracy", "perplexity", "ece")]
    found = compare({"other": given}, metrics)
    assert found.score("accuracy", "other") is not None
    assert found.score("perplexity", "other") is None
    assert found.score("ece", "other") is None
