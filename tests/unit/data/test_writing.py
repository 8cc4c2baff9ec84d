"""Changed rows as records of the form they were read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sartor import registry
from sartor.data.outcome import with_texts
from sartor.data.recognition import Shape, shape
from sartor.data.rows import Origin, Row
from sartor.data.sources._record import Record
from sartor.data.writing import as_ours, as_read

AT = Origin("a.jsonl", 1)
SAMPLES = [
    (name, number, sample)
    for name in registry.names("format")
    for number, sample in enumerate(registry.component("format", name).SAMPLES)
]


def louder(text: str) -> str:
    """A change that every text shows, and that JSON survives."""
    return text.replace("a", "\u00e4").replace("e", "\u00e9")


def bare(row: Row) -> Row:
    return replace(row, id=None, group=None, columns={})


def as_read_by_format(name: str, record: Mapping[str, Any]) -> Row:
    form = Shape(name, {}, automatic=False)
    return replace(form.row(record, AT), columns={key: value for key, value in record.items() if key not in form.taken})


@pytest.mark.parametrize(("name", "number", "sample"), SAMPLES, ids=[f"{name}-{number}" for name, number, _ in SAMPLES])
def test_a_sample_of_each_format_comes_back_unchanged_or_changed(
    name: str, number: int, sample: dict[str, Any]
) -> None:
    row = as_read_by_format(name, sample)
    form = Shape(name, {}, automatic=False)
    assert as_read(sample, row, row, form) == sample
    changed = with_texts(row, louder)
    record = as_read(sample, row, changed, form)
    if record is not None:
        assert list(record) == list(sample)
        assert bare(as_read_by_format(name, record)) == bare(changed)
    if hasattr(row, "tools") and "tool_calls" in str(sample):
        return
    ours = as_ours(changed)
    again = shape("auto", {}, [Record(ours, 1)], table=False)
    assert bare(again.row(ours, AT)).prompt_text() == changed.prompt_text()
    assert bare(again.row(ours, AT)).answer_text() == changed.answer_text()


def test_most_forms_can_be_written_as_they_were() -> None:
    written = [
        as_read(sample, row, with_texts(row, louder), Shape(name, {}, automatic=False)) is not None
        for name, _, sample in SAMPLES
        for row in [as_read_by_format(name, sample)]
    ]
    assert sum(written) == len(written), [sample[:2] for sample, fine in zip(SAMPLES, written, strict=True) if not fine]


def test_one_text_may_stand_in_two_places_and_change_in_one() -> None:
    record = {"completion": "yes", "prompt": "yes"}
    row = as_read_by_format("prompt_completion", record)
    changed = with_texts(row, lambda text: "no", "answer")
    assert as_read(record, row, changed, Shape("prompt_completion", {}, automatic=False)) is not None


def test_mapped_columns_keep_their_names_and_other_columns_change_with_the_row() -> None:
    form = Shape("prompt_completion", {"prompt": "q", "completion": "reply"}, automatic=False)
    record = {"day": 3, "q": "a b", "reply": {"x": 1, "y": "z"}, "mail": "a@b.ch"}
    row = replace(form.row(record, AT), columns={"day": 3, "mail": "a@b.ch"})
    changed = replace(with_texts(row, lambda text: text.replace("z", "zz")), columns={"day": 3, "mail": "-"})
    assert as_read(record, row, changed, form) == {"day": 3, "q": "a b", "reply": {"x": 1, "y": "zz"}, "mail": "-"}
