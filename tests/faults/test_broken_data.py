"""Broken data files: each gives its code on its line, a message that says how to mend it, and never a traceback."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from sartor.data.findings import Findings
from sartor.data.reading import read
from sartor.errors import Problem

GOOD = b'{"prompt": "Who?", "completion": "Me."}\n'


def jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def pair(**columns: Any) -> dict[str, Any]:
    return {"prompt": "Who?", "completion": "Me."} | columns


def chat(*turns: Any, **columns: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": said} for role, said in turns]} | columns


def shared(*turns: tuple[Any, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": said} for role, said in turns]}


TALK = chat(("user", "Hello"), ("assistant", "Hi."))
Expected = Sequence[tuple[str, int | None, str]]

BROKEN: dict[str, tuple[str, bytes, Expected]] = {
    # JSON lines that are not JSON
    "missing comma": ("a.jsonl", GOOD + b'{"prompt": "a" "completion": "b"}\n', [("D101", 2, "expected ','")]),
    "unescaped quote": (
        "a.jsonl",
        GOOD * 3 + b'{"prompt": "say "a" now", "completion": "b"}\n' + GOOD,
        [("D101", 4, "expected ','")],
    ),
    "single quotes": ("a.jsonl", GOOD + b"{'prompt': 'a', 'completion': 'b'}\n", [("D101", 2, "single quote")]),
    "comma at the end": ("a.jsonl", b'{"prompt": "a", "completion": "b",}\n' + GOOD, [("D101", 1, "comma before")]),
    "python constant": ("a.jsonl", GOOD + b'{"prompt": "a", "completion": None}\n', [("D101", 2, "expected a value")]),
    "record cut off": ("a.jsonl", GOOD * 2 + b'{"prompt": "a", "compl', [("D101", 3, "no closing quote")]),
    "two records on a line": (
        "a.jsonl",
        GOOD + GOOD.strip() * 2 + b"\n" + GOOD,
        [("D101", 2, "expected the end of the line")],
    ),
    "plain words": ("a.jsonl", GOOD + b"\n\nhello\n", [("D101", 4, "expected a value")]),
    "duplicate key": (
        "a.jsonl",
        GOOD + b'{"prompt": "a", "completion": "b", "prompt": "c"}\n',
        [("D105", 2, '"prompt" appears twice')],
    ),
    "NaN": ("a.jsonl", GOOD + b'{"prompt": "NaN", "completion": "b", "n": NaN}\n', [("D106", 2, "NaN is not JSON")]),
    "infinity": ("a.jsonl", GOOD + b'{"prompt": "a", "completion": "b", "n": 1e999}\n', [("D106", 2, "too large")]),
    "endless number": (
        "a.jsonl",
        GOOD + b'{"prompt": "a", "completion": "b", "n": ' + b"9" * 5000 + b"}\n",
        [("D101", 2, "digits")],
    ),
    "raw control character": ("a.jsonl", GOOD + b'{"prompt": "a\x07", "completion": "b"}\n', [("D104", 2, "U+0007")]),
    "raw NUL": ("a.jsonl", GOOD + b'{"prompt": "a\x00", "completion": "b"}\n', [("D104", 2, "NUL")]),
    "escaped NUL": ("a.jsonl", GOOD + b'{"prompt": "a\\u0000", "completion": "b"}\n', [("D104", 2, "NUL")]),
    "lone surrogate": (
        "a.jsonl",
        GOOD + b'{"prompt": "\\ud83d", "completion": "b"}\n',
        [("D104", 2, "lone surrogate")],
    ),
    "line too long": ("a.jsonl", GOOD + jsonl(pair(prompt="x" * 70_000)) + GOOD, [("D107", 2, "over 0.0625 MiB")]),
    "nested too deep": (
        "a.jsonl",
        GOOD + jsonl(pair(extra=json.loads("[" * 150 + "]" * 150))),
        [("D108", 2, "deeper than 100")],
    ),
    "nested to the stack's end": ("a.jsonl", GOOD + b"[" * 60_000 + b"\n", [("D108", 2, "deeper than 100")]),
    "list in a line": ("a.jsonl", GOOD + b"[1, 2]\n", [("D111", 2, "a list")]),
    "number in a line": ("a.jsonl", GOOD + b"7\n", [("D111", 2, "a number")]),
    # encodings
    "Windows-1252": (
        "a.jsonl",
        GOOD + '{"prompt": "café “x”", "completion": "b"}\n'.encode("cp1252"),
        [("D102", 2, "Windows-1252")],
    ),
    "Latin-1": (
        "a.jsonl",
        GOOD * 5 + '{"prompt": "café", "completion": "b"}\n'.encode("latin-1"),
        [("D102", 6, "0xe9")],
    ),
    "cut inside a character": (
        "a.jsonl",
        GOOD + '{"prompt": "café'.encode()[:-1],
        [("D102", 2, "middle of a character")],
    ),
    "UTF-16 with mark": ("a.jsonl", GOOD.decode().encode("utf-16"), [("D103", 1, "UTF-16")]),
    "UTF-16 without mark": ("a.jsonl", GOOD.decode().encode("utf-16-le"), [("D103", 1, "UTF-16LE")]),
    "UTF-32": ("a.csv", "prompt,completion\na,b\n".encode("utf-32"), [("D103", 1, "UTF-32")]),
    "picture": ("a.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", [("D102", 1, "not text")]),
    "text in cp1252": ("a.md", "One\nTwo\nthe café\n".encode("cp1252"), [("D102", 3, "Windows-1252")]),
    "text with NUL": ("a.txt", b"One\nTwo\0\n", [("D104", 2, "NUL")]),
    # whole files
    "empty file": ("a.jsonl", b"", [("D100", None, "no records")]),
    "blank lines only": ("a.jsonl", b"\n \n\n", [("D100", None, "no records")]),
    "empty list": ("a.json", b"[]", [("D100", None, "no records")]),
    "empty csv": ("a.csv", b"", [("D100", None, "no records")]),
    "header only": ("a.csv", b"prompt,completion\n", [("D100", None, "no records")]),
    "blank text": ("a.txt", b" \n\n", [("D100", None, "no records")]),
    "unknown columns": ("a.jsonl", jsonl({"frage": "a", "reply": "b"}), [("D112", 1, "frage, reply")]),
    "two forms fit": (
        "a.jsonl",
        jsonl(TALK | {"chosen": "a", "rejected": "b", "prompt": "c"}),
        [("D112", 1, "messages and preference")],
    ),
    "empty objects": ("a.jsonl", b"{}\n{}\n", [("D112", 1, "empty objects")]),
    "text too large": ("a.txt", b"word " * 20_000, [("D107", 1, "over")]),
    # JSON
    "json cut off": (
        "a.json",
        b'[\n{"prompt": "a", "completion": "b"},\n{"prompt": "a"',
        [("D101", 3, "expected ','")],
    ),
    "json without end": ("a.json", b'[\n{"prompt": "a", "completion": "b"}\n', [("D101", 3, "end of the file")]),
    "json comma at the end": (
        "a.json",
        b'[{"prompt": "a", "completion": "b"},\n]',
        [("D101", 2, "a record after the comma")],
    ),
    "json missing comma": (
        "a.json",
        b'[{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "b"}]',
        [("D101", 2, "',' or ']'")],
    ),
    "json then more": ("a.json", b'[{"prompt": "a", "completion": "b"}]\n\nx', [("D101", 3, "end of the file")]),
    "json duplicate key": (
        "a.json",
        b'[\n{"prompt": "a",\n "completion": "b",\n "prompt": "c"},\n{"prompt": "a", "completion": "b"}]',
        [("D105", 4, "twice")],
    ),
    "json object of records": (
        "a.json",
        b'\n{"1": "' + b"x" * 40_000 + b'", "2": "' + b"x" * 40_000 + b'"}',
        [("D107", 2, "over")],
    ),
    "json top key twice": ("a.json", b'{"a": 1,\n "a": 2}', [("D105", 2, "twice")]),
    "json scalar": ("a.json", b"42", [("D101", 1, "a list of records")]),
    "json of words": ("a.json", b'["a",\n"b"]', [("D111", 1, "text (an object needed)")]),
    "json encoding": ("a.json", b'[\n{"prompt": "caf\xe9", "completion": "b"}]', [("D102", 2, "0xe9")]),
    "json record too long": (
        "a.json",
        b"[" + GOOD.strip() + b",\n" + jsonl(pair(prompt="x" * 70_000)).strip() + b"]",
        [("D107", 2, "over")],
    ),
    "json too deep": ("a.json", b'[\n{"a": ' + b"[" * 60_000, [("D108", 2, "deeper")]),
    # tables
    "ragged row": ("a.csv", b"prompt,completion\na,b\na,b,c\n", [("D101", 3, "3 fields, the header has 2")]),
    "missing field": ("a.csv", b"prompt,completion\na,b\na\n", [("D101", 3, "1 fields, the header has 2")]),
    "unclosed quote": ("a.csv", b'prompt,completion\na,b\nc,"d\ne,f\n', [("D101", 3, "not closed")]),
    "text after a quote": ("a.csv", b'prompt,completion\na,b\n"a"b,c\nd,e\n', [("D101", 3, "after a closing quote")]),
    "no header": ("a.csv", b"Where is the parcel that I ordered?,In the van.\nWho?,Me.\n", [("D112", 1, "no header")]),
    "column named twice": ("a.csv", b"prompt,prompt\na,b\n", [("D105", 1, "appears twice")]),
    "NUL in csv": ("a.csv", b"prompt,completion\na,b\nc\0,d\n", [("D104", 3, "NUL")]),
    "csv encoding": ("a.csv", b"prompt,completion\na,b\ncaf\xe9,d\ne,f\n", [("D102", 3, "0xe9")]),
    "empty cell": ("a.csv", b"prompt,completion\na,b\nc,\n", [("D120", 3, "empty answer")]),
    "line break in a field": ("a.csv", b'prompt,completion\n"a\n\nb",c\nd,\n', [("D120", 5, "empty answer")]),
    "ragged tsv": ("a.tsv", b"text\tlabel\na\tb\na b\n", [("D101", 3, "1 fields, the header has 2")]),
    # rows
    "null answer": (
        "a.jsonl",
        jsonl(pair(), pair(completion=None)),
        [("D111", 2, '"completion" is null (text needed)')],
    ),
    "number for text": ("a.jsonl", jsonl(pair(prompt=3), pair()), [("D111", 1, '"prompt" is a number (text needed)')]),
    "missing answer": ("a.jsonl", jsonl(pair(), {"prompt": "a"}), [("D111", 2, '"completion" is missing')]),
    "misspelt column": (
        "a.jsonl",
        jsonl(pair(), {"prompt": "a", "completoin": "b"}),
        [("D111", 2, 'is it the column "completoin"?')],
    ),
    "empty answer": ("a.jsonl", jsonl(pair(), pair(completion=" \n")), [("D120", 2, "empty answer")]),
    "empty prompt": ("a.jsonl", jsonl(pair(), pair(prompt="")), [("D121", 2, '"prompt" is empty')]),
    "mixed forms": ("a.jsonl", jsonl(pair(), pair(), TALK), [("D110", 3, "of form messages")]),
    "null content": (
        "a.jsonl",
        jsonl(TALK, chat(("user", None), ("assistant", "x"))),
        [("D111", 2, "messages[0].content is null")],
    ),
    "unknown role": (
        "a.jsonl",
        jsonl(TALK, chat(("user", "x"), ("assistent", "y"))),
        [("D141", 2, 'did you mean "assistant"?')],
    ),
    "no answer": ("a.jsonl", jsonl(TALK, chat(("system", "a"), ("user", "x"))), [("D142", 2, "no assistant turn")]),
    "two users": (
        "a.jsonl",
        jsonl(TALK, chat(("user", "a"), ("user", "x"), ("assistant", "y"))),
        [("D143", 2, "two user turns")],
    ),
    "empty turn": ("a.jsonl", jsonl(TALK, chat(("user", "a"), ("assistant", ""))), [("D120", 2, "empty answer")]),
    "picture part": (
        "a.jsonl",
        jsonl(TALK, chat(("user", [{"type": "image_url", "image_url": {}}]), ("assistant", "y"))),
        [("D111", 2, "the path of an image needed")],
    ),
    "messages null": ("a.jsonl", jsonl(TALK, {"messages": None}), [("D111", 2, '"messages" is null')]),
    "messages empty": ("a.jsonl", jsonl(TALK, {"messages": []}), [("D111", 2, "empty list")]),
    "messages as text": ("a.jsonl", jsonl(TALK, {"messages": "hi"}), [("D111", 2, "a list of messages needed")]),
    "role missing": (
        "a.jsonl",
        jsonl(TALK, {"messages": [{"rolle": "user", "content": "x"}]}),
        [("D111", 2, 'is it "rolle"?')],
    ),
    "bad arguments": (
        "a.jsonl",
        jsonl(
            TALK, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{x"}}]}]}
        ),
        [("D111", 2, "not JSON")],
    ),
    "bad weight": (
        "a.jsonl",
        jsonl(TALK, {"messages": [{"role": "assistant", "content": "x", "weight": -1}]}),
        [("D111", 2, "weight")],
    ),
    "sharegpt role": (
        "a.jsonl",
        jsonl(shared(("human", "a"), ("gtp", "b")), shared(("human", "a"), ("gpt", "b"))),
        [("D141", 1, 'did you mean "gpt"?')],
    ),
    "sharegpt null": (
        "a.jsonl",
        jsonl(shared(("human", "a"), ("gpt", "b")), shared(("human", "a"), ("gpt", None))),
        [("D111", 2, "conversations[1].value is null")],
    ),
    "label null": (
        "a.jsonl",
        jsonl({"text": "a", "label": "x"}, {"text": "b", "label": None}),
        [("D111", 2, '"label" is null')],
    ),
    "label missing": (
        "a.jsonl",
        jsonl({"text": "a", "label": "x"}, {"text": "b"}),
        [("D111", 2, '"label" is missing')],
    ),
    "label list": (
        "a.jsonl",
        jsonl({"text": "a", "label": "x"}, {"text": "b", "label": ["x"]}),
        [("D111", 2, '"label" is a list')],
    ),
    "same answers": ("a.jsonl", jsonl({"prompt": "a", "chosen": "b", "rejected": "b"}), [("D170", 1, "the same")]),
    "no prompt": ("a.jsonl", jsonl({"chosen": "b", "rejected": "c"}), [("D111", 1, '"prompt" is missing')]),
    "verdict word": ("a.jsonl", jsonl(pair(label=True), pair(label="maybe")), [("D111", 2, '"maybe"')]),
    "marked text without answer": (
        "a.jsonl",
        jsonl({"text": "### Human: a### Assistant: b"}, {"text": "### Human: a"}),
        [("D142", 2, "no assistant turn")],
    ),
    # archives
    "bomb": ("a.jsonl.gz", gzip.compress(b" " * (40 << 20)), [("S320", None, "200 times")]),
    "cut archive": ("a.jsonl.gz", gzip.compress(GOOD * 50)[:-9], [("S322", None, "in the middle")]),
    "no archive": ("a.jsonl.xz", GOOD, [("S322", None, "damaged")]),
    "cut xz": ("a.jsonl.xz", lzma.compress(GOOD * 50)[:-4], [("S322", None, "in the middle")]),
    "cut zst": ("a.jsonl.zst", zstandard.compress(GOOD * 50)[:-5], [("S322", None, "in the middle")]),
}


def findings_of(path: Path, **options: Any) -> tuple[list[Problem], int, Findings]:
    findings = Findings()
    rows = list(read(path, findings=findings, label=path.name, max_line_bytes=1 << 16, **options))
    return findings.problems, len(rows), findings


def test_there_are_enough_faults() -> None:
    assert len(BROKEN) >= 60


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_is_named_on_its_line(name: str, tmp_path: Path) -> None:
    file, content, expected = BROKEN[name]
    (tmp_path / file).write_bytes(content)
    problems, _, _ = findings_of(tmp_path / file)
    assert [(problem.code, problem.line) for problem in problems] == [(code, line) for code, line, _ in expected]
    for problem, (_, _, words) in zip(problems, expected, strict=True):
        assert words in problem.what
        assert problem.file == file
        assert problem.level == "error"
        assert problem.fix
        assert "\n" not in str(problem)
        assert str(problem).isprintable()


@pytest.mark.parametrize("name", [name for name, (file, content, _) in BROKEN.items() if content.startswith(GOOD)])
def test_the_good_rows_round_a_fault_are_kept_and_the_bad_one_counted(name: str, tmp_path: Path) -> None:
    file, content, expected = BROKEN[name]
    if file.endswith(".xz"):
        pytest.skip("not readable at all")
    (tmp_path / file).write_bytes(content)
    problems, rows, findings = findings_of(tmp_path / file)
    lines = [line for line in content.split(b"\n") if line.strip()]
    assert rows == len(lines) - 1
    assert findings.records[file] == len(lines)
    assert findings.skipped[file] == 1
    assert findings.fatal == []
    (dropped,) = findings.dropped
    assert (dropped.origin.file, dropped.origin.line, dropped.rule) == (file, expected[0][1], problems[0].code)


def test_a_fault_of_the_whole_file_cannot_be_skipped(tmp_path: Path) -> None:
    for name in (
        "empty file",
        "unknown columns",
        "bomb",
        "UTF-16 with mark",
        "json cut off",
        "no header",
        "cut archive",
    ):
        file, content, _ = BROKEN[name]
        (tmp_path / file).write_bytes(content)
        _, _, findings = findings_of(tmp_path / file)
        assert len(findings.fatal) == 1, name


def test_a_bad_row_reads_as_documented(tmp_path: Path) -> None:
    bad = b'{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "It is on its way to you."}]}\n'
    (tmp_path / "support.jsonl").write_bytes(jsonl(TALK) * 430 + bad + jsonl(TALK) * 3 + bad)
    ((problem,), rows, findings) = findings_of(tmp_path / "support.jsonl")
    assert str(problem) == (
        "support.jsonl:431: error D111: messages[0].content is null (2 rows). "
        '{"messages": [{"role": "user", "content": null}, {"role": "a ... '
        "Fix: give it text, or   data: {on_bad: skip}   to leave such rows out and count them"
    )
    assert problem.rows == (435,)
    assert rows == 433
    assert findings.skipped["support.jsonl"] == 2


def test_the_column_points_at_the_fault(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        '{"prompt": "é", "completion": NaN}\n{"prompt": "é" 3}\n{"a": 1, "prompt": 1, "a": 2}\n'.encode()
    )
    problems, _, _ = findings_of(tmp_path / "a.jsonl")
    assert [(problem.code, problem.column) for problem in problems] == [("D106", 31), ("D101", 16), ("D105", 23)]
    (tmp_path / "b.jsonl").write_bytes('{"prompt": "ü caf'.encode() + b'\xe9", "completion": "b"}\n')
    ((problem,), _, _) = findings_of(tmp_path / "b.jsonl")
    assert (problem.column, problem.fix) == (18, "iconv -f CP1252 -t UTF-8 b.jsonl")


def test_the_file_name_in_a_command_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "a; rm x.jsonl").write_bytes(b"\xe9\n")
    ((problem,), _, _) = findings_of(tmp_path / "a; rm x.jsonl")
    assert problem.fix == "iconv -f CP1252 -t UTF-8 'a; rm x.jsonl'"


def test_many_faults_stay_within_bounds(tmp_path: Path) -> None:
    lines = [
        b'{"prompt": "a", "completion": "b", "completion": %d, "k%d": 1, "k%d": 1}\n' % (n, n, n) for n in range(3000)
    ]
    (tmp_path / "a.jsonl").write_bytes(
        b"".join(line.replace(b'"completion": %d, ' % n, b"") for n, line in enumerate(lines))
    )
    problems, rows, findings = findings_of(tmp_path / "a.jsonl")
    assert rows == 0
    assert len(problems) == 201
    assert sum(1 + len(problem.rows) for problem in problems) == 3000
    assert len(list(findings.dropped)) == 3000


def test_a_mark_of_utf8_is_left_out_and_said(tmp_path: Path) -> None:
    for file, content in (("a.jsonl", GOOD), ("a.json", b"[" + GOOD + b"]"), ("a.csv", b"prompt,completion\na,b\n")):
        (tmp_path / file).write_bytes(b"\xef\xbb\xbf" + content)
        problems, rows, findings = findings_of(tmp_path / file)
        assert [(problem.code, problem.level) for problem in problems] == [("D103", "info")], file
        assert (rows, findings.records[file], findings.skipped[file]) == (1, 1, 0)


def test_missing_files_and_folders_are_problems_too(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(GOOD)
    problems, _, _ = findings_of(tmp_path / "trian.jsonl")
    assert [(problem.code, "train.jsonl" in problem.what) for problem in problems] == [("D113", True)]
    problems, _, _ = findings_of(tmp_path)
    assert [problem.code for problem in problems] == ["D113"]
