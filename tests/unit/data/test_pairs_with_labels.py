"""Two texts with a label: read whatever the two are called, asked without the label, and no label where nobody has decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sartor.data.formats import labeled, labeled_pair, scored
from sartor.data.formats._fields import BadRow
from sartor.data.questions import questions
from sartor.data.rows import Origin

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
