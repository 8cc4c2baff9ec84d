"""Records to be answered: every format with its answer taken away asks the same as with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sartor import registry
from sartor.data.questions import FORMATS, Question, questions
from sartor.data.rows import Origin
from sartor.errors import DataError, Problem

WITHOUT = {
    "alpaca": ("output",),
    "dolly": ("response",),
    "labeled": ("label",),
    "prompt_completion": ("completion",),
    "question_answer": ("answer",),
}


def ask(folder: Path, *records: object, name: str = "asked.jsonl") -> list[Question | Problem]:
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return list(questions(path, label=name))


@pytest.mark.parametrize("form", FORMATS)
def test_every_sample_asks_its_prompt(form: str, tmp_path: Path) -> None:
    module = registry.component("format", form)
    for found, sample in zip(ask(tmp_path, *module.SAMPLES), module.SAMPLES, strict=True):
        assert isinstance(found, Question), found
        assert found.row.prompt() == module.parse(sample, Origin("", 1)).prompt()
        assert found.record == sample


@pytest.mark.parametrize("form", WITHOUT)
def test_a_sample_without_its_answer_asks_the_same(form: str, tmp_path: Path) -> None:
    module = registry.component("format", form)
    samples = [sample for sample in module.SAMPLES if form != "dolly" or "context" in sample]
    asked = [{key: value for key, value in sample.items() if key not in WITHOUT[form]} for sample in samples]
    for found, sample in zip(ask(tmp_path, *asked), samples, strict=True):
        assert isinstance(found, Question), found
        assert found.row.prompt() == module.parse(sample, Origin("", 1)).prompt()


def test_conversations_that_end_with_the_user(tmp_path: Path) -> None:
    first, second, third, fourth = ask(
        tmp_path,
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]},
        {"conversations": [{"from": "human", "value": "u"}]},
        {"prompt": [{"role": "user", "content": "u"}], "chosen": "a", "rejected": "b"},
        {"text": "### Human: u"},
    )
    assert [turn.role for turn in first.row.prompt()] == ["system", "user"]
    assert [found.row.prompt_text() for found in (second, third, fourth)] == ["u", "u", "u"]


def test_ids_are_kept_or_made_from_the_place(tmp_path: Path) -> None:
    found = ask(tmp_path, {"id": 7, "prompt": "a"}, {"prompt": "b"})
    assert [question.row.id for question in found] == ["7", "asked.jsonl:2"]


def test_a_text_file_asks_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("First?\n\nSecond?\n", encoding="utf-8")
    found = list(questions(tmp_path / "asked.txt", label="asked.txt"))
    assert [question.row.prompt_text() for question in found] == ["First?", "Second?"]
    assert [question.row.origin.line for question in found] == [1, 3]


def test_what_asks_nothing_is_named(tmp_path: Path) -> None:
    strange, empty, broken = ask(tmp_path, {"promt": "a"}, {"prompt": " "}, {"messages": []})
    assert (strange.code, strange.line) == ("D112", 1)
    assert 'is it "promt"?' in strange.what
    assert (empty.code, empty.line) == ("D121", 2)
    assert (broken.code, broken.line) == ("D111", 3)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="D100"):
        ask(tmp_path)
