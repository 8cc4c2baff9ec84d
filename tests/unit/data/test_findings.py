"""Findings merge what is the same, count what is left out, and stay small."""

from __future__ import annotations

import json

from sartor.data.findings import DISTINCT, Dropped, Findings
from sartor.data.rows import Origin
from sartor.errors import Problem


def problem(line: int, what: str = "empty answer", level: str = "error") -> Problem:
    return Problem("D120", what, file="a.jsonl", line=line, level=level)


def test_the_same_fault_is_told_once_with_its_rows() -> None:
    findings = Findings()
    for line in (3, 5, 9):
        findings.reject(problem(line))
    findings.reject(problem(4, "another"))
    first, second = findings.problems
    assert (first.line, first.rows, first.what) == (3, (5, 9), "empty answer (3 rows)")
    assert (second.line, second.rows, second.what) == (4, (), "another")
    assert findings.skipped["a.jsonl"] == 4
    assert next(iter(findings.dropped)) == Dropped(Origin("a.jsonl", 3), "D120", "empty answer")


def test_rows_given_with_a_problem_are_kept() -> None:
    findings = Findings()
    findings.add(Problem("D150", "same", file="a", line=1, rows=(2, 3), level="warning"))
    findings.add(Problem("D150", "same", file="a", line=7, rows=(8,), level="warning"))
    assert findings.problems[0].rows == (2, 3, 7, 8)
    assert findings.errors == []


def test_only_what_was_added_is_fatal() -> None:
    findings = Findings()
    findings.reject(problem(1))
    findings.add(problem(2, level="warning"))
    assert findings.fatal == []
    findings.add(Problem("D100", "no records", file="b.jsonl"))
    assert [fatal.code for fatal in findings.fatal] == ["D100"]
    assert [error.code for error in findings.errors] == ["D120", "D100"]


def test_a_fault_of_a_row_and_of_the_file_together_is_fatal() -> None:
    findings = Findings()
    findings.reject(problem(1))
    findings.add(problem(2))
    assert [fatal.rows for fatal in findings.fatal] == [(2,)]


def test_rows_left_out_can_be_forgiven_and_broken_files_cannot() -> None:
    findings = Findings()
    findings.reject(problem(1))
    findings.add(Problem("D100", "no records", file="b.jsonl"))
    findings.forgive()
    assert [(told.code, told.level) for told in findings.problems] == [("D120", "warning"), ("D100", "error")]
    assert sum(1 for _ in findings.dropped) == 1


def test_different_messages_are_bounded_but_all_counted() -> None:
    findings = Findings()
    for line in range(5000):
        findings.reject(problem(line, f"message {line}"))
    assert len(findings.problems) == DISTINCT + 1
    assert sum(1 + len(told.rows) for told in findings.problems) == 5000
    assert sum(1 for _ in findings.dropped) == 5000


def test_an_id_belongs_to_the_first_that_claims_it() -> None:
    findings = Findings()
    assert findings.claim("x", Origin("a", 1)) is None
    assert findings.claim("y", Origin("a", 2)) is None
    assert findings.claim("x", Origin("b", 9)) == Origin("a", 1)


def test_json_has_the_documented_shape() -> None:
    findings = Findings()
    findings.formats["a.jsonl"] = "text"
    findings.records["a.jsonl"] += 2
    findings.unused["a.jsonl"] = ("url",)
    findings.reject(problem(2))
    body = json.loads(json.dumps(findings.json()))
    assert body["files"] == [{"path": "a.jsonl", "format": "text", "records": 2, "skipped": 1, "unused": ["url"]}]
    assert (
        body["findings"][0] | {"code": "D120", "file": "a.jsonl", "line": 2, "rows": [], "message": "empty answer"}
        == body["findings"][0]
    )
