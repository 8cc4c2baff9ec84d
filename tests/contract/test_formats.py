"""What every data format promises; a new format is covered by this file the moment it exists."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor import registry
from sartor.data.findings import Findings
from sartor.data.formats._fields import BadRow
from sartor.data.reading import read, recognise
from sartor.data.rows import Example, Origin, Row, row_from_json
from sartor.options import Options

NAMES = registry.names("format")
CASES = [(name, sample) for name in NAMES for sample in registry.component("format", name).SAMPLES]
ORIGIN = Origin("a.jsonl", 1)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
turns = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "tool", "sytem", "developer"]) | json_values,
        "content": st.text(max_size=5) | json_values,
        "from": st.sampled_from(["human", "gpt", "function_call"]) | json_values,
        "value": st.text(max_size=5) | json_values,
        "tool_calls": json_values,
        "weight": json_values,
        "train": json_values,
    },
)


def test_the_promised_formats_are_there() -> None:
    assert {"alpaca", "dolly", "prompt_completion", "question_answer", "human_assistant", "sharegpt"} <= set(NAMES)
    assert {"messages", "labeled", "text", "preference", "kto"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented_by_an_example(name: str) -> None:
    module = registry.component("format", name)
    assert issubclass(module.Options, Options)
    assert module.SAMPLES
    assert module.FIELDS
    blocks = re.findall(r"^    (\{.*\})$", module.__doc__, re.MULTILINE)
    assert blocks, "the docstring opens with a record"
    for block in blocks:
        assert module.detects(json.loads(block))


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_it_detects_its_own_samples_and_no_other_does(name: str, sample: dict[str, Any]) -> None:
    assert [other for other in NAMES if registry.component("format", other).detects(sample)] == [name]


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_a_sample_becomes_a_row_that_survives_json(name: str, sample: dict[str, Any]) -> None:
    row = registry.component("format", name).parse(sample, ORIGIN)
    assert isinstance(row, Row)
    assert row.origin == ORIGIN
    assert row_from_json(json.loads(json.dumps(row.to_json()))).content_hash() == row.content_hash()
    if isinstance(row, Example):
        assert row.answer().role == "assistant"
        assert row.prompt_text().strip()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_its_samples_is_recognised(name: str, tmp_path: Path) -> None:
    module = registry.component("format", name)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in module.SAMPLES))
    findings = Findings()
    rows = list(read(path, findings=findings))
    assert findings.problems == []
    assert [row.origin.line for row in rows] == list(range(1, len(module.SAMPLES) + 1))
    found = recognise(path)
    assert (found.source, found.format, found.sample) == ("jsonl", name, rows[0])
    for row, sample in zip(rows, module.SAMPLES, strict=True):
        assert row.columns == {key: value for key, value in sample.items() if key not in module.FIELDS}


@pytest.mark.parametrize("name", NAMES)
def test_every_field_can_be_mapped(name: str, tmp_path: Path) -> None:
    module = registry.component("format", name)
    path = tmp_path / "rows.jsonl"
    renamed = [
        {f"my {key}" if key in module.FIELDS else key: value for key, value in sample.items()}
        for sample in module.SAMPLES
    ]
    path.write_text("".join(json.dumps(sample) + "\n" for sample in renamed))
    used = {key for sample in module.SAMPLES for key in sample if key in module.FIELDS}
    findings = Findings()
    rows = list(read(path, format=name, map={key: f"my {key}" for key in used}, findings=findings))
    assert findings.problems == []
    plain = [module.parse(sample, row.origin) for sample, row in zip(module.SAMPLES, rows, strict=True)]
    assert [_bare(row) for row in rows] == [_bare(row) for row in plain]


def _bare(row: Row) -> dict[str, Any]:
    return row.to_json() | {"columns": {}}


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(NAMES, 2)))
def test_another_form_among_the_rows_is_an_error(one: str, other: str, tmp_path: Path) -> None:
    first, second = (registry.component("format", name).SAMPLES[0] for name in (one, other))
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(first) + "\n") * 3 + json.dumps(second) + "\n")
    findings = Findings()
    rows = list(read(path, findings=findings))
    assert [row.origin.line for row in rows] == [1, 2, 3]
    (problem,) = findings.problems
    assert problem.line == 4
    assert problem.code in ("D110", "D111", "D142")


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_record_is_a_row_or_a_coded_refusal(name: str, data: st.DataObject) -> None:
    module = registry.component("format", name)
    deep = json_values | st.lists(turns, max_size=3)
    record = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(module.FIELDS, deep)))
    assert module.detects(record) in (True, False)
    outcome = _parsed(module, record)
    if isinstance(outcome, BadRow):
        assert re.fullmatch(r"D1\d\d", outcome.code)
        assert outcome.what
        assert outcome.fix
    else:
        assert row_from_json(json.loads(json.dumps(outcome.to_json()))).content_hash() == outcome.content_hash()


def _parsed(module: ModuleType, record: dict[str, Any]) -> Row | BadRow:
    try:
        return module.parse(record, ORIGIN)
    except BadRow as bad:
        return bad


def test_the_reference_page_shows_every_format_and_its_examples_are_true() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/data-formats.md").read_text(encoding="utf-8")
    examples = [json.loads(line) for line in page.split("```json\n")[1].split("```")[0].splitlines()]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == NAMES
    for (name, fields), example in zip(rows, examples, strict=True):
        module = registry.component("format", name)
        assert set(re.findall(r"`(\w+)`", fields)) == set(module.FIELDS)
        assert module.detects(example)
        assert module.parse(example, ORIGIN)
    endings = {
        ending for source in registry.names("source") for ending in registry.component("source", source).EXTENSIONS
    }
    assert endings <= set(re.findall(r"`(\.\w+)`", page))
