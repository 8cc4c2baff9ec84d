"""Two texts with a label: read whatever the two are called, asked without the label, and no label where nobody has decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sartor.data.formats import labeled, labeled_pair, scored
from sartor.data.formats._fields import BadRow
from sartor.data.outcome import with_texts
from sartor.data.questions import questions
from sartor.data.release import openai, plain
from sartor.data.rows import Example, Message, Origin, row_from_json
from sartor.evaluate.shots import with_shots

ORIGIN = Origin("a.jsonl", 1)


@pytest.mark.parametrize("names", labeled_pair.PAIRS)
def test_both_texts_are_asked_and_the_label_answers(names: tuple[str, str], tmp_path: Path) -> None:
    record: dict[str, Any] = {names[0]: "It rains.", names[1]: "It is wet.", "label": 0}
    row = labeled_pair.parse(record, ORIGIN)
    assert (row.prompt_text(), row.answer_text()) == ("It rains.\n\nIt is wet.", "0")  # type: ignore[attr-defined]
    assert (row.label, row.stratum) == ("0", "0")  # type: ignore[attr-defined]
    del record["label"]
    path = tmp_path / "asked.jsonl"
    path.write_text(json.dumps(record) + "\n")
    (asked,) = questions(path, label="asked.jsonl")
    assert asked.row.prompt_text() == "It rains.\n\nIt is wet."  # type: ignore[union-attr]
    assert asked.row.texts() == ("It rains.", "It is wet.")  # type: ignore[union-attr]


def test_it_stays_two_texts_where_it_is_kept_and_changed_and_is_one_turn_where_a_model_is_asked() -> None:
    row = labeled_pair.parse({"premise": "It rains.", "hypothesis": "It is wet.", "label": "yes"}, ORIGIN)
    assert isinstance(row, Example)
    assert row.texts() == ("It rains.", "It is wet.")
    assert row_from_json(json.loads(json.dumps(row.to_json()))) == row
    assert labeled_pair.parse(plain(row), ORIGIN) == row
    loud = with_texts(row, str.upper, "prompt")
    assert isinstance(loud, Example)
    assert loud.texts() == ("IT RAINS.", "IT IS WET.")
    turns = (Message("user", "It rains.\n\nIt is wet."), Message("assistant", "yes"))
    assert row.conversation().messages == turns
    assert with_shots(row, [row]) == (*turns, *row.prompt())
    assert (openai(row) or {})["messages"] == [{"role": turn.role, "content": turn.content} for turn in turns]


@pytest.mark.parametrize("label", [-1, "-1", "-"])
def test_what_nobody_decided_is_no_label(label: Any) -> None:
    with pytest.raises(BadRow, match="nobody has decided"):
        labeled_pair.parse({"premise": "a", "hypothesis": "b", "label": label}, ORIGIN)


def test_a_pair_with_a_score_is_scored_and_one_with_a_text_labelled() -> None:
    assert not labeled_pair.detects({"sentence1": "a", "sentence2": "b", "score": 1.0})
    assert scored.detects({"sentence1": "a", "sentence2": "b", "score": 1.0})
    both = {"text": "a", "sentence1": "a", "sentence2": "b", "label": "x"}
    assert labeled.detects(both)
    assert not labeled_pair.detects(both)
