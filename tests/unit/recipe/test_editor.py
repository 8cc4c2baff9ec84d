from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sartor.recipe.auto import Resolution
from sartor.recipe.editor import json_schema, json_schema_text, reference_markdown
from sartor.recipe.load import CODES, parse
from sartor.recipe.node import compose
from sartor.recipe.shape import knobs

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
REMAKE = "make it again: python -c \"from pathlib import Path; from sartor.recipe.editor import write; write(Path('docs/reference'))\""
SMALL = "base: sartor/nano\ndata: a.jsonl\n"


def plain(text: str) -> Any:
    node, _ = compose(text, "recipe.yaml")
    assert node is not None
    return node.plain()


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "text",
    [
        SMALL,
        "base: {model: m, dtype: float32}\ndata: [a, {path: b, map: {prompt: q}}]\ngoal: text in, JSON out",
        SMALL + "method: full\ntrain: {optimizer: sgd, schedule: {linear: {warmup: 0.1}}, stop: {on: validation.loss}}",
        SMALL
        + "method: {lora: {rank: 3, alpha: auto, target_modules: [q_proj]}}\ntrain: {batch: {tokens: 512}, epochs: auto}",
        SMALL + "goal: {success: [{metric: 'm.py:f', at_least: 1}]}\nevaluate: {metrics: [bleu, 'm.py:f']}",
    ],
)
def test_the_schema_accepts_what_loads(validator: Any, text: str) -> None:
    parse(text)
    assert list(validator.iter_errors(plain(text))) == []
    assert list(validator.iter_errors(yaml.safe_load(Resolution(parse(text)).to_yaml()))) == []


@pytest.mark.parametrize(
    "text",
    [
        "base: m",
        SMALL + "methd: lora",
        SMALL + "method: lroa",
        SMALL + "method: {lora: {rnk: 3}}",
        SMALL + "method: {lora: {rank: 0}}",
        SMALL + "train: {batch: 3}",
        SMALL + "train: {optimizer: {sgd: {eps: 1}}}",
        SMALL + "evaluate: {metrics: [blue]}",
        "base: m\ndata: 5",
    ],
)
def test_the_schema_refuses_what_does_not_load(validator: Any, text: str) -> None:
    assert list(validator.iter_errors(plain(text)))


def test_the_reference_names_every_key_and_code() -> None:
    text = reference_markdown()
    for knob in knobs():
        assert f"| `{knob.rpartition('.')[2]}` |" in text
    for code in CODES:
        assert f"| {code} |" in text


def test_the_reference_in_the_documentation_is_current() -> None:
    assert (REFERENCE / "recipe.md").read_text(encoding="utf-8") == reference_markdown(), REMAKE
    assert (REFERENCE / "recipe.schema.json").read_text(encoding="utf-8") == json_schema_text(), REMAKE
