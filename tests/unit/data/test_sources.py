"""Sources give records with the line they begin on, whatever the file's size and packing."""

from __future__ import annotations

import csv as csv_module
import gzip
import io
import json
import lzma
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from sartor import registry
from sartor.data.findings import Findings
from sartor.data.reading import read
from sartor.data.sources import csv, jsonl, lines, paragraphs, parquet, text, tsv
from sartor.data.sources import json as json_source
from sartor.data.sources._record import Record, shorten
from sartor.errors import DataError, Problem

LIMIT = 1 << 22
rows = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.text(max_size=20),
            "n": st.integers() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
        }
    ),
    max_size=6,
)
printable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def values(source: ModuleType, path: Path, limit: int = LIMIT) -> list[tuple[int, Any]]:
    found = []
    for item in source.records(path, max_line_bytes=limit):
        assert isinstance(item, Record), item
        found.append((item.line, item.value))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def test_every_source_keeps_its_promises() -> None:
    endings: list[str] = []
    for name in registry.names("source"):
        module = registry.component("source", name)
        assert issubclass(module.Options, registry.component("format", "text").Options)
        assert "\n    " in str(module.__doc__)
        endings += module.EXTENSIONS
    assert len(endings) == len(set(endings))
    assert {".jsonl", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet"} <= set(endings)


@given(rows)
def test_jsonl_and_json_give_back_what_was_written(folder: Path, given_rows: list[dict[str, Any]]) -> None:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\r\n\n" for row in given_rows), newline="", encoding="utf-8")
    if not any("\0" in row["prompt"] for row in given_rows):
        assert values(jsonl, path) == [(1 + 2 * number, row) for number, row in enumerate(given_rows)]
        for indent in (None, 1):
            path = folder / "a.json"
            path.write_text(json.dumps(given_rows, indent=indent, ensure_ascii=False), encoding="utf-8", newline="")
            found = values(json_source, path)
            assert [value for _, value in found] == given_rows
            assert [line for line, _ in found] == [
                1 if indent is None else 2 + 4 * number for number in range(len(given_rows))
            ]


@given(st.lists(st.lists(printable, min_size=2, max_size=2), max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_csv_gives_back_what_was_written(folder: Path, fields: list[list[str]], end: str) -> None:
    written = io.StringIO(newline="")
    writer = csv_module.writer(written, lineterminator=end, quoting=csv_module.QUOTE_ALL)
    writer.writerows([["a", "b"], *fields])
    path = folder / "a.csv"
    path.write_text(written.getvalue(), newline="", encoding="utf-8")
    expected, line = [], 2
    for one, other in fields:
        expected.append((line, {"a": one, "b": other}))
        line += 1 + (one + other).count("\n")
    assert values(csv, path) == expected


def test_csv_dialects(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text;label\n"a;b, c";d\n')
    assert values(csv, path) == [(2, {"text": "a;b, c", "label": "d"})]
    path.write_text("\n\n,text\n0,a\n\n1,b")
    assert values(csv, path) == [(4, {"column_1": "0", "text": "a"}), (6, {"column_1": "1", "text": "b"})]
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\na, "b"; c\td\n"e\nf"\tg\n')
    assert values(tsv, path) == [(2, {"text": 'a, "b"; c', "label": "d"}), (3, {"text": "e\nf", "label": "g"})]


def test_a_bad_csv_row_does_not_hide_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n1,2\n"x"y,3\n4,5\ncaf\xe9,6\n7\n8,9\n')
    items = list(csv.records(path, max_line_bytes=LIMIT))
    assert [item.line for item in items] == [2, 3, 4, 5, 6, 7]
    assert [item.code if isinstance(item, Problem) else item.value["b"] for item in items] == [
        "2",
        "D101",
        "5",
        "D102",
        "D101",
        "9",
    ]


def test_json_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"version": {"a": [1]},\n "data": [\n  {"x": 1},\n\n  {"x": 2}\n ], "more": null}')
    assert values(json_source, path) == [(3, {"x": 1}), (5, {"x": 2})]
    path.write_text('\n{"x": 1,\n "y": [2]}')
    assert values(json_source, path) == [(2, {"x": 1, "y": [2]})]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
def test_json_does_not_depend_on_how_it_arrives(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_source, "_PIECE", piece)
    given_rows = [{"é": 'a\\"\n😀', "n": -1.5e-3}, {"t": [True, None, 123456]}, {"": {"deep": [{}]}}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(given_rows, ensure_ascii=False), encoding="utf-8")
    assert [value for _, value in values(json_source, path)] == given_rows
    path.write_text('[12345, {"a": 1}]')
    number, record = json_source.records(path, max_line_bytes=LIMIT)
    assert isinstance(number, Problem)
    assert isinstance(record, Record)
    path.write_bytes(b'[{"a": "x"},\n {"b": "\xc3\xa9 \xe9"}]')
    items = json_source.records(path, max_line_bytes=LIMIT)
    assert isinstance(next(items), Record)
    with pytest.raises(DataError) as caught:
        next(items)
    assert [(problem.code, problem.line, problem.column) for problem in caught.value.problems] == [("D102", 2, 11)]


def test_json_goes_on_after_a_record_that_is_only_unsound(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": NaN},\n{"a": 1, "a": 2},\n3,\n{"a": "\t"},\n{"a": "\\ud800"},\n{"a": 5}]')
    items = list(json_source.records(path, max_line_bytes=LIMIT))
    assert [item.line for item in items] == [1, 2, 3, 4, 5, 6]
    assert [item.code if isinstance(item, Problem) else item.value for item in items] == [
        "D106",
        "D105",
        "D111",
        "D104",
        "D104",
        {"a": 5},
    ]


def test_text_is_one_document_and_can_be_divided(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"# One\r\n\r\ntwo\n\n \nthree\nfour")
    assert values(text, path) == [(1, {"text": "# One\n\ntwo\n\n \nthree\nfour"})]
    assert [(line, value["text"]) for line, value in values(lines, path)] == [
        (1, "# One"),
        (3, "two"),
        (6, "three"),
        (7, "four"),
    ]
    assert [(line, value["text"]) for line, value in values(paragraphs, path)] == [
        (1, "# One"),
        (3, "two"),
        (6, "three\nfour"),
    ]


def test_paragraphs_have_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\n\n" + "word\n" * 100 + "\nb\n")
    items = list(paragraphs.records(path, max_line_bytes=200))
    assert [(item.line, isinstance(item, Problem)) for item in items] == [(1, False), (3, True), (104, False)]


PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files_read_like_plain_ones(ending: str, tmp_path: Path) -> None:
    first, second = (
        b"".join(b'{"n": %d, "t": "%x"}\n' % (n, n * n) for n in part)
        for part in (range(20_000), range(20_000, 21_000))
    )
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(PACKERS[ending](first) + PACKERS[ending](second) + b"\0" * (8 if ending != ".zst" else 0))
    found = values(jsonl, path)
    assert [value["n"] for _, value in found] == list(range(21_000))
    assert found[-1][0] == 21_000
    for name, source, content in (
        ("a.csv", csv, b"n\n1\n"),
        ("a.json", json_source, b'[{"n": "1"}]'),
        ("a.txt", lines, b"1"),
    ):
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(PACKERS[ending](content))
        assert [list(value.values()) for _, value in values(source, path)] == [["1"]]


def test_a_bomb_is_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    megabyte = b'{"a": "' + b"x" * (1 << 20) + b'"}\n'
    with gzip.open(path, "wb") as file:
        for _ in range(300):
            file.write(megabyte)
    seen: list[int] = []
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        seen.extend(item.line for item in jsonl.records(path, max_line_bytes=LIMIT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.problems[0].code == "S320"
    assert len(seen) <= 20
    assert peak < 32 << 20


def test_parquet(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="the extra sartor[tables] is not installed")
    import datetime as dt

    path = tmp_path / "a.parquet"
    frame = polars.DataFrame(
        {
            "messages": [
                [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "b"}] for n in range(5000)
            ],
            "day": [dt.date(2026, 11, 21)] * 5000,
            "score": [float("nan"), 0.5] * 2500,
        }
    )
    frame.write_parquet(path)
    found = values(parquet, path)
    assert [line for line, _ in found] == list(range(1, 5001))
    assert found[4999][1]["messages"][0] == {"role": "user", "content": "4999"}
    assert found[0][1]["day"] == "2026-11-21"
    assert [value["score"] for _, value in found[:2]] == [None, 0.5]
    findings = Findings()
    assert sum(1 for _ in read(path, findings=findings)) == 5000
    assert findings.problems == []


def test_damaged_parquet(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="the extra sartor[tables] is not installed")
    path = tmp_path / "a.parquet"
    polars.DataFrame({"prompt": ["a"] * 100, "completion": ["b"] * 100}).write_parquet(path)
    whole = path.read_bytes()
    for damaged in (b"", b"PAR1", b"hello", whole[:-6], whole[20:], whole[:40] + b"\xff" * 30 + whole[70:]):
        path.write_bytes(damaged)
        findings = Findings()
        list(read(path, findings=findings))
        assert [problem.code for problem in findings.errors] == ["D101"], damaged


def test_parquet_without_polars_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    findings = Findings()
    assert list(read(tmp_path / "a.parquet", findings=findings)) == []
    assert [(problem.code, problem.fix) for problem in findings.fatal] == [("D119", 'pip install "sartor[tables]"')]


ENDINGS = [".jsonl", ".json", ".csv", ".tsv", ".txt", ".unknown", ".jsonl.gz", ".csv.xz", ".json.zst"]
PIECES = [
    b'{"prompt": "a", "completion": "b"}',
    b"\n",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b",",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"text,label",
    b"NaN",
]
PIECES += [
    b"\xff",
    b"\xe9",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"1e999",
    b"null",
    b'"messages": ',
    b'"data": ',
    b"### Human:",
    b" ",
    b"\r",
    b":",
]


@pytest.mark.parametrize("ending", ENDINGS)
@given(
    content=st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=25).map(b"".join), packed=st.booleans()
)
@example(content=b"[" * 5000, packed=False)
@example(content=b'{"a":' * 5000, packed=True)
@example(content=b"9" * 5000, packed=False)
def test_any_bytes_end_in_rows_or_findings(folder: Path, ending: str, content: bytes, packed: bool) -> None:
    path = folder / f"fuzz{ending}"
    packer = PACKERS.get(path.suffix)
    path.write_bytes(packer(content) if packer and packed else content)
    findings = Findings()
    found = list(read(path, findings=findings, max_line_bytes=300))
    assert found or findings.errors
    for row in found:
        assert row.to_json()
    for problem in findings.problems:
        assert str(problem).isprintable()
        assert problem.file
    assert findings.records[str(path)] >= len(found) + findings.skipped[str(path)]


def _jsonl_of(size: int, path: Path) -> int:
    line = json.dumps({"prompt": "What is it? " * 20, "completion": "It is that, and more of it. " * 20}) + "\n"
    path.write_text(line * (size // len(line)))
    return path.stat().st_size


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv"])
def test_memory_does_not_grow_with_the_file(ending: str, tmp_path: Path) -> None:
    peaks = []
    for count in (2_000, 12_000):
        path = tmp_path / f"a{count}{ending}"
        record = {"prompt": "What is it? " * 8, "completion": "It is that. " * 8}
        line = json.dumps(record)
        body = {
            ".jsonl": f"{line}\n" * count,
            ".json": "[" + ",\n".join([line] * count) + "]",
            ".csv": "prompt,completion\n" + f"{record['prompt']},{record['completion']}\n" * count,
        }[ending]
        path.write_text(body)
        del body
        tracemalloc.start()
        assert sum(1 for _ in read(path, findings=Findings())) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 20)
    assert peaks[1] < 8 << 20


def test_jsonl_is_read_at_thirty_megabytes_a_second(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    size = _jsonl_of(8 << 20, path)

    def seconds(items: Iterator[Any]) -> float:
        start = time.process_time()
        for _ in items:
            pass
        return time.process_time() - start

    best = min(seconds(read(path, findings=Findings())) for _ in range(3))
    assert size / best > 30e6, f"{size / best / 1e6:.0f} MB/s"


def test_reading_needs_no_heavy_library() -> None:
    program = "import sys, sartor.data.reading as r, sartor.registry as g\n"
    program += "[g.component(k, n) for k in ('source', 'format') for n in g.names(k)]\n"
    program += "print([m for m in ('torch', 'transformers', 'numpy', 'polars', 'zstandard') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_excerpts_are_one_printable_line() -> None:
    assert shorten("a\nb\tc\u202ed\x07") == "a\\nb\\tc\\u202ed\\u0007"
    assert shorten("x" * 100) == "x" * 60 + " ..."
    assert shorten("0123456789", start=3, width=4) == "... 3456 ..."
