"""What every data check promises; a new check is covered by this file the moment it exists."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sartor import registry
from sartor.data.crew import Crew
from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Judged, Message, Origin, Preference, Row, Text
from sartor.data.split import undivided
from sartor.data.watching import begin, findings
from sartor.errors import Problem
from sartor.options import Options

NAMES = registry.names("check")
ASK, SAY = Message("user", "Where is my card?"), Message("assistant", "On its way.")
AT = Origin("a.jsonl", 1)


def kinds() -> list[list[Row]]:
    """Small sets of every kind of row, sound and odd."""
    rows: list[Row] = [
        Example(origin=AT, messages=(ASK, SAY)),
        Example(origin=AT, messages=(SAY,), label="On its way."),
        Text(origin=AT, text="\u202e bob@example.org AKIAIOSFODNN7EXAMPLE pаypal \x00 \ud7ff"),
        Preference(origin=AT, prompt=(ASK,), chosen=(SAY,), rejected=(ASK,)),
        Judged(origin=AT, prompt=(ASK,), completion=(SAY,), liked=True),
    ]
    numbered = [[replace(row, origin=Origin("a.jsonl", line)) for line in range(1, 41)] for row in rows]
    return [[], *numbered, rows]


@pytest.fixture(params=kinds(), ids=lambda rows: f"{len(rows)}-{rows[0].kind if rows else 'none'}")
def dataset(request: pytest.FixtureRequest) -> Iterator[Dataset]:
    with tempfile.TemporaryDirectory() as folder:
        yield Dataset.write(request.param, Path(folder))


@pytest.mark.parametrize("name", NAMES)
def test_shape_of_the_module(name: str) -> None:
    module = registry.component("check", name)
    assert issubclass(module.Options, Options)
    assert hasattr(module, "check") != hasattr(module, "watch"), "one of the two"
    assert re.search(r"(D|S)\d{3}", module.__doc__ or ""), "the docstring shows a message"
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not imported & {"torch", "transformers", "rensa"}


@pytest.mark.parametrize("name", NAMES)
def test_findings_are_coded_located_and_mendable(name: str, dataset: Dataset) -> None:
    splits = undivided(dataset, 0.8)
    found = list(findings([name], dataset, splits))
    for problem in found:
        assert isinstance(problem, Problem)
        assert re.fullmatch(r"(D1|S3)\d{2}", problem.code)
        assert problem.file == "a.jsonl"
        assert problem.line is not None
        assert problem.fix
        assert all(isinstance(line, int) for line in problem.rows)
        assert problem.line not in problem.rows or len(dataset) == 5
        assert "EXAMPLE" not in str(problem)
    assert found == list(findings([name], dataset, splits))


def test_several_processes_find_the_same(tmp_path: Path) -> None:
    rows = [replace(row, origin=Origin("a.jsonl", line)) for line, row in enumerate((kinds()[-1] * 30), 1)]
    dataset = Dataset.write(rows, tmp_path)
    parts = undivided(dataset, 0.8).part.copy()
    parts[::5], parts[1::7] = 1, 2
    splits = replace(undivided(dataset, 0.8), part=parts)
    together = list(findings(NAMES, dataset, splits))
    assert together == [problem for name in NAMES for problem in findings([name], dataset, splits)]
    done: list[int] = []
    with Crew(2) as crew:
        assert list(begin(crew, NAMES, dataset, splits, done.append)()) == together
    assert done[-1] == len(NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "index.columns"}
    assert len({problem.code for problem in together}) > 4
