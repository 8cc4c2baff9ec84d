"""Rows whose label is learnt: ids as the model's own tokenizer makes them, labels as numbers, cut only as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import headed
import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from sartor import registry
from sartor.data.findings import Findings
from sartor.data.rows import Origin, Row, row_from_json
from sartor.errors import DataError, TokenError
from sartor.tokens.inputs import Inputs, supervise_inputs
from sartor.tokens.targets import Targets
from sartor.tokens.vocabulary import Vocabulary


def rows(format: str, records: list[dict[str, Any]]) -> list[Row]:
    form = registry.component("format", format)
    return [form.parse(record, Origin("a.jsonl", line)) for line, record in enumerate(records, 1)]


KINDS = {
    "classes": rows("labeled", [{"text": "b", "label": "yes"}, {"text": "a", "label": "no"}, {"text": "c", "label": "no"}]),
    "labels": rows("multilabel", [{"text": "a", "labels": ["x", "z"]}, {"text": "b", "labels": []}]),
    "number": rows("scored", [{"text": "a", "score": 1}, {"text": "b", "score": 4}, {"text": "c", "score": 7}]),
    "tags": rows("tagged", [{"tokens": ["red", "lamps"], "tags": ["B", "O"]}, {"tokens": ["x"], "tags": ["O"]}]),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizers")
    for name in ("bert", "roberta", "t5"):
        headed.TOKENIZERS[name](made / name, headed.corpus())
    return made


def inputs(folder: Path, name: str, targets: Targets | None = None) -> Inputs:
    vocabulary = Vocabulary.load(folder / name)
    return Inputs(vocabulary, vocabulary.frame, targets)


def test_names_and_scale_come_from_the_rows() -> None:
    assert Targets.learn("classes", KINDS["classes"]).names == ("no", "yes")
    assert Targets.learn("labels", KINDS["labels"]).names == ("x", "z")
    assert Targets.learn("tags", KINDS["tags"]).names == ("B", "O")
    number = Targets.learn("number", KINDS["number"])
    assert (number.center, number.spread) == pytest.approx((4.0, np.sqrt(6)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("classes", [1]), ("labels", [1, 1]), ("number", [-3 / np.sqrt(6)]), ("tags", [0, 1])],
)
def test_a_row_becomes_numbers(kind: Any, expected: list[float]) -> None:
    targets = Targets.learn(kind, KINDS[kind])
    assert targets.of(KINDS[kind][0]) == pytest.approx(expected)
    assert Targets.from_json(targets.json()) == targets


def test_what_cannot_be_learnt_is_refused() -> None:
    for kind, found in (
        ("classes", KINDS["classes"][1:]),
        ("number", KINDS["number"][:1]),
        ("labels", KINDS["labels"][1:]),
    ):
        with pytest.raises(DataError, match="T231"):
            Targets.learn(kind, found)  # type: ignore[arg-type]
    for kind in ("labels", "number", "tags"):
        with pytest.raises(DataError, match=r"a.jsonl:1: error T230: the row has no"):
            Targets.learn(kind, KINDS["classes"])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["bert", "roberta", "t5"])
def test_ids_are_those_of_the_models_own_tokenizer(folder: Path, name: str) -> None:
    theirs = PreTrainedTokenizerFast.from_pretrained(str(folder / name))
    ours = inputs(folder, name)
    one, two = "7: 12 red lamps to Oslo", "Bern, Lima!"
    (single,) = rows("scored", [{"text": one, "score": 1}])
    (pair,) = rows("scored", [{"sentence1": one, "sentence2": two, "score": 1}])
    (label,) = rows("labeled", [{"text": two, "label": "x"}])
    (both,) = rows("labeled_pair", [{"premise": one, "hypothesis": two, "label": 0}])
    assert ours.read(both).ids.tolist() == theirs(one, two)["input_ids"]
    assert ours.read(row_from_json(both.to_json())).ids.tolist() == theirs(one, two)["input_ids"]
    assert ours.read(single).ids.tolist() == theirs(one)["input_ids"]
    assert ours.read(pair).ids.tolist() == theirs(one, two)["input_ids"]
    assert ours.read(label).ids.tolist() == theirs(two)["input_ids"]


def test_a_control_token_in_a_text_is_text(folder: Path) -> None:
    (row,) = rows("labeled", [{"text": "red [SEP] lamps", "label": "x"}])
    ours = inputs(folder, "bert")
    separator = ours.vocabulary.special_tokens["[SEP]"]
    assert ours.read(row).ids.tolist().count(separator) == 1


def test_a_decoder_reads_between_beginning_and_end_of_text(tmp_path: Path) -> None:
    headed.save_model(tmp_path, "llama")
    vocabulary = Vocabulary.load(tmp_path)
    ours = Inputs(vocabulary, vocabulary.text_frame)
    (pair,) = rows("scored", [{"sentence1": "red lamps", "sentence2": "to Oslo", "score": 1}])
    text = vocabulary.encode("red lamps", special=True), vocabulary.encode("to Oslo", special=True)
    between = vocabulary.encode("\n\n", special=True)
    assert ours.read(pair).ids.tolist() == [vocabulary.bos_id, *text[0], *between, *text[1], vocabulary.eos_id]


@pytest.mark.parametrize("name", ["bert", "roberta", "t5"])
def test_a_tag_stands_on_the_first_token_of_its_word(folder: Path, name: str) -> None:
    words = ["4711", "red", "lamps", ",", "Quito,"]
    (row,) = rows("tagged", [{"tokens": words, "tags": ["A", "B", "C", "D", "E"]}])
    ours = inputs(folder, name, Targets("tags", ("A", "B", "C", "D", "E")))
    rendered = ours.render(row, 3)
    assert len(rendered.labels) == len(rendered)
    places = np.flatnonzero(~np.isnan(rendered.labels))
    assert rendered.labels[places].tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(rendered.weight).tolist() == [len(rendered) - 1]
    ends = [*places[1:], len(rendered) - len(ours.frame.single[1])]
    found = [
        ours.vocabulary.decode(rendered.ids[a:b].tolist()).replace(" ", "") for a, b in zip(places, ends, strict=True)
    ]
    assert [text.lower() for text in found] == [word.lower() for word in words]


def test_words_are_those_transformers_aligns(folder: Path) -> None:
    """`word_ids` of a fast tokenizer: the first token of each word is the one with the tag."""
    theirs = PreTrainedTokenizerFast.from_pretrained(str(folder / "bert"))
    words = ["4711", "red", "lamps", ",", "Quito,"]
    encoded = theirs(words, is_split_into_words=True)
    places = [encoded.word_ids().index(number) for number in range(len(words))]
    (row,) = rows("tagged", [{"tokens": words, "tags": ["O"] * 5}])
    read = inputs(folder, "bert").read(row)
    assert read.ids.tolist() == encoded["input_ids"]
    assert read.firsts.tolist() == places


def supervised(folder: Path, into: Path, found: list[Row], learnt: list[Row], kind: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {"max_tokens": 64, "too_long": "error", **changes}
    findings = Findings()
    made = supervise_inputs(
        found,
        range(len(found)),
        inputs(folder, "bert", Targets.learn(kind, learnt)),
        folder=into,
        label="test",
        findings=findings,
        emit=lambda event: None,
        **settings,
    )
    return list(made), findings


def test_a_label_that_no_training_row_has_is_named(folder: Path, tmp_path: Path) -> None:
    strange = rows("labeled", [{"text": "a", "label": "no"}, {"text": "b", "label": "perhaps"}])
    with pytest.raises(TokenError, match=r'a.jsonl:2: error T230: no training row has the label "perhaps"'):
        supervised(folder, tmp_path, strange, KINDS["classes"], "classes")
    assert not (tmp_path / "tokens.json").exists()


def test_long_texts_are_refused_left_out_or_cut_at_their_beginning(folder: Path, tmp_path: Path) -> None:
    long = rows("labeled", [{"text": "red " * 40 + "lamps", "label": "no"}, {"text": "b", "label": "yes"}])
    with pytest.raises(TokenError, match=r"a.jsonl:1: error D130.*data.max_tokens: \d+ keeps all"):
        supervised(folder, tmp_path, long, long, "classes", max_tokens=20)
    kept, findings = supervised(folder, tmp_path, long, long, "classes", max_tokens=20, too_long="drop")
    assert (len(kept), [problem.code for problem in findings.problems]) == (1, ["D130"])
    kept, findings = supervised(folder, tmp_path, long, long, "classes", max_tokens=20, too_long="cut_prompt")
    assert (len(kept), [problem.code for problem in findings.problems]) == (2, ["D132"])
    whole = inputs(folder, "bert").read(long[0]).ids
    assert kept[0].ids.tolist() == [whole[0], *whole[-19:]]


def test_of_two_texts_the_longer_one_is_cut(folder: Path) -> None:
    (pair,) = rows("scored", [{"sentence1": "red " * 30, "sentence2": "to Oslo", "score": 1}])
    ours = inputs(folder, "bert")
    whole, cut = ours.read(pair).ids, ours.read(pair, 20)
    assert len(cut.ids) == 20
    assert cut.cut
    assert cut.ids[-10:].tolist() == whole[-10:].tolist()
    assert not ours.read(pair, len(whole)).cut
