"""Reading a file: which source, which format, which columns, which rows; and the same on real data where it lies at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sartor.data.findings import Findings
from sartor.data.reading import expand, read, recognise
from sartor.data.rows import Example, Row, Text
from sartor.errors import DataError, Problem

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
PAIR = {"prompt": "a", "completion": "b"}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path, **options: Any) -> tuple[list[Row], list[Problem]]:
    findings = Findings()
    rows = list(read(path, findings=findings, label=path.name, **options))
    return rows, findings.problems


def refusal(path: Path, **options: Any) -> Problem:
    rows, problems = rows_of(path, **options)
    assert rows == []
    (problem,) = problems
    assert (problem.code, problem.level, problem.file) == ("D112", "error", path.name)
    return problem


def test_unused_columns_stay_with_the_row_and_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", PAIR | {"x": 1}, PAIR, PAIR | {"y": [2], "x": None})
    findings = Findings()
    rows = list(read(path, findings=findings, label="data/a.jsonl"))
    assert [row.columns for row in rows] == [{"x": 1}, {}, {"y": [2], "x": None}]
    assert findings.unused == {"data/a.jsonl": ("x", "y")}
    assert findings.formats == {"data/a.jsonl": "prompt_completion"}
    assert findings.records == {"data/a.jsonl": 3}
    assert str(rows[2].origin) == "data/a.jsonl:3"
    assert recognise(path).unused == ("x", "y")


def test_a_map_names_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "a", "json": {"k": 1}, "prompt": "other", "label": "z"})
    (row,), problems = rows_of(path, map={"prompt": "text", "completion": "json"})
    assert problems == []
    assert isinstance(row, Example)
    assert (row.prompt_text(), row.answer_text(), row.columns) == ("a", '{"k":1}', {"prompt": "other", "label": "z"})


def test_one_column_may_serve_two_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"word": "a"})
    (row,), _ = rows_of(path, map={"text": "word", "label": "word"})
    assert (row.prompt_text(), row.answer_text()) == ("a", "a")


def test_a_mapped_field_is_told_by_the_files_name_for_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"q": "a", "r": "b"}, {"q": "a", "r": None}, {"q": "a"})
    rows, problems = rows_of(path, map={"prompt": "q", "completion": "r"})
    assert len(rows) == 1
    assert [problem.what for problem in problems] == ['"r" is null (text needed)', '"r" is missing']


def test_a_mapped_field_never_falls_back_to_a_column_of_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"q": "a", "prompt": "x", "completion": "b"}, {"prompt": "x", "completion": "b"})
    rows, (problem,) = rows_of(path, map={"prompt": "q"})
    assert [row.prompt_text() for row in rows] == ["a"]
    assert (problem.line, problem.what) == (2, '"q" is missing')


def test_maps_that_cannot_be_right(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"question": "a", "reply": "b"})
    assert 'did you mean "prompt"?' in refusal(path, map={"promt": "question"}).what
    assert 'did you mean "reply"?' in refusal(path, map={"prompt": "question", "completion": "replay"}).what
    assert "no field of the format labeled" in refusal(path, format="labeled", map={"prompt": "question"}).what
    assert "together" in refusal(path, map={"chosen": "question", "label": "reply"}).what
    assert (
        refusal(path, map={"prompt": "question"}).fix == "map: {prompt: question, completion: reply}, or format: NAME"
    )


def test_unknown_columns_get_a_suggestion_that_works(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"query": "a", "result": {"b": 1}})
    problem = refusal(path)
    assert problem.what == "columns query, result are of no known form"
    assert problem.fix == "map: {prompt: query, completion: result}, or format: NAME"
    rows, problems = rows_of(path, map={"prompt": "query", "completion": "result"})
    assert (len(rows), problems) == (1, [])


def test_a_named_format_is_not_recognised_but_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "a", "label": "b"})
    (row,), _ = rows_of(path, format="text")
    assert isinstance(row, Text)
    assert row.columns == {"label": "b"}
    assert 'did you mean "labeled"?' in refusal(path, format="labelled").what


def test_a_source_may_be_named_instead(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\nthree\n")
    assert [len(rows_of(path, format=name)[0]) for name in ("auto", "text", "lines", "paragraphs")] == [1, 1, 3, 2]
    path.write_text("text,label\na,b\n")
    (row,), _ = rows_of(path, format="csv")
    assert isinstance(row, Example)


def test_the_content_decides_where_the_name_does_not(tmp_path: Path) -> None:
    lines, document = json.dumps(PAIR) + "\n" + json.dumps(PAIR), json.dumps([PAIR, PAIR], indent=2)
    for name, content, count in (
        ("a.json", lines, 2),
        ("b.jsonl", document, 2),
        ("c.dat", lines, 2),
        ("d.dat", document, 2),
        ("e", "### Human: a### Assistant: b", 1),
        ("f.json", json.dumps(PAIR), 1),
        ("g.json", json.dumps(PAIR, indent=2), 1),
        ("h.json", json.dumps({"data": [PAIR, PAIR]}), 2),
    ):
        (tmp_path / name).write_text(content)
        rows, problems = rows_of(tmp_path / name)
        assert (len(rows), problems) == (count, []), name
        assert isinstance(rows[0], Example)


def test_mixed_forms_follow_the_majority(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path = write(tmp_path / "a.jsonl", chat, PAIR, PAIR, chat, PAIR)
    rows, (problem,) = rows_of(path)
    assert [row.origin.line for row in rows] == [2, 3, 5]
    assert (problem.code, problem.line, problem.rows) == ("D110", 1, (4,))
    assert problem.what == "this record is of form messages; most of the file is prompt_completion (2 rows)"


def test_a_format_is_found_behind_many_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("broken\n" * 500 + json.dumps(PAIR) + "\n")
    rows, problems = rows_of(path)
    assert [row.origin.line for row in rows] == [501]
    assert [(problem.code, len(problem.rows)) for problem in problems] == [("D101", 499)]


def test_groups_and_ids(tmp_path: Path) -> None:
    given = [
        PAIR | {"customer": 7, "key": "x"},
        PAIR | {"customer": "7", "key": 2},
        PAIR | {"customer": None, "key": "y"},
    ]
    given += [
        PAIR | {"customer": 8},
        PAIR | {"customer": 8, "key": ""},
        PAIR | {"customer": 8, "key": "x"},
        PAIR | {"customer": True, "key": "z"},
    ]
    rows, problems = rows_of(write(tmp_path / "a.jsonl", *given), group="customer", id="key")
    assert [(row.group, row.id) for row in rows] == [("7", "x"), ("7", "2")]
    assert [(problem.code, problem.line, problem.what.partition(" (")[0]) for problem in problems] == [
        ("D111", 3, '"customer" is null'),
        ("D111", 4, '"key" is missing'),
        ("D111", 5, '"key" is empty'),
        ("D114", 6, 'id "x" is already that of a.jsonl:1'),
        ("D111", 7, '"customer" is true or false'),
    ]


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    findings = Findings()
    for name in ("a.jsonl", "b.jsonl"):
        list(read(write(tmp_path / name, PAIR | {"id": "1"}), id="id", findings=findings, label=name))
    assert [str(problem).split(". ")[0] for problem in findings.problems] == [
        'b.jsonl:1: error D114: id "1" is already that of a.jsonl:1'
    ]


def test_recognise(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "", "label": "b"}, {"text": "a", "label": "b", "n": 1})
    found = recognise(path)
    assert (found.source, found.format, found.columns, found.unused) == (
        "jsonl",
        "labeled",
        ("text", "label", "n"),
        ("n",),
    )
    assert found.sample.origin.line == 2
    write(path, {"a": "b"})
    with pytest.raises(DataError, match=r"x\.jsonl:1: error D112: the column a is of no known form") as caught:
        recognise(path, label="x.jsonl")
    assert caught.value.exit_code == 2
    write(path, PAIR | {"prompt": None}, PAIR | {"completion": ""})
    with pytest.raises(DataError) as caught:
        recognise(path)
    assert [problem.code for problem in caught.value.problems] == ["D111", "D120"]
    write(path)
    with pytest.raises(DataError, match="D100: no records"):
        recognise(path)


def test_expand(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl.gz", "deep/c.csv", "README", ".hidden.jsonl", ".git/x.jsonl", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def found(path: str) -> list[str]:
        return [str(file.relative_to(tmp_path)) for file in expand(path, tmp_path)]

    assert found("b.jsonl") == found(str(tmp_path / "b.jsonl")) == ["b.jsonl"]
    assert found(".") == ["a.jsonl.gz", "b.jsonl", "deep/c.csv"]
    assert found("deep") == found("**/c.*") == ["deep/c.csv"]
    assert found("*.jsonl*") == ["a.jsonl.gz", "b.jsonl"]
    assert expand("builtin:demo", tmp_path)[0].is_file()
    (tmp_path / "notes").mkdir()
    for name in ("one.md", "two.txt"):
        (tmp_path / "notes" / name).write_text("Some text.")
    assert found("notes") == ["notes/one.md", "notes/two.txt"]
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "good.pos").touch()
    assert found("odd") == ["odd/good.pos"]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("trian.jsonl", "D113", 'did you mean "train.jsonl"?'),
        ("nowhere/train.jsonl", "D113", "does not exist"),
        ("*.csv", "D113", "no file matches"),
        ("https://example.org/a.jsonl", "D113", "an address"),
        ("builtin:nothing", "D113", "nothing"),
        ("builtin:../../secrets", "D113", "built-in"),
        ("empty", "D113", "no files"),
        ("mixed", "D117", "tables beside text files"),
        ("a\0b", "D113", "NUL"),
        ("x" * 5000, "D113", "cannot be read"),
    ],
)
def test_paths_that_mean_nothing(path: str, code: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for name in ("a.txt", "b.jsonl"):
        (tmp_path / "mixed" / name).touch()
    with pytest.raises(DataError) as caught:
        expand(path, tmp_path)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert words in problem.what


def real(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip("the real data sets are not beside the repository")
    return path


@pytest.mark.parametrize(
    ("name", "format", "count", "map"),
    [
        ("banking77/train.jsonl", "labeled", 10003, {}),
        ("snips_json/train.jsonl", "prompt_completion", 13784, {"prompt": "text", "completion": "json"}),
        ("alpaca_en_demo/alpaca_en_demo.json", "alpaca", 999, {}),
        ("sgd_chat/train.jsonl", "messages", 650, {}),
        ("gsm8k/test.jsonl", "question_answer", 1319, {}),
        ("general_text/c4_demo.jsonl", "text", 300, {}),
        ("general_text/wiki_demo.txt", "text", 1, {}),
        ("bitext_support/raw_dev.csv", "labeled", 810, {"text": "utterance", "label": "intent"}),
        ("hh_harmless/train.jsonl", "preference", 998, {}),
    ],
)
def test_real_data(name: str, format: str, count: int, map: dict[str, str]) -> None:
    findings = Findings()
    path = real(name)
    rows = list(read(path, map=map, findings=findings))
    assert findings.formats[str(path)] == format
    assert len(rows) == count
    assert findings.skipped[str(path)] == (2 if format == "preference" else 0)
    assert {problem.code for problem in findings.problems} <= {"D120"}


def test_real_files_in_an_old_encoding() -> None:
    for path in expand("raw", real("movie_reviews")):
        rows, (problem,) = rows_of(path, format="auto")
        assert rows == []
        assert (problem.code, problem.line, problem.column) == (
            ("D102", 32, 17) if path.suffix == ".neg" else ("D102", 44, 48)
        )
        rows, problems = rows_of(path, format="lines")
        assert len(rows) > 5000
        assert {problem.code for problem in problems} == {"D102"}


def test_real_json_without_a_suggestion_is_refused() -> None:
    (problem,) = rows_of(real("snips_json/raw/train_BookRestaurant.json"))[1]
    assert problem.code == "D112"
    assert rows_of(real("snips_json/raw/train_PlayMusic_full.latin1.json"))[1][0].code == "D102"
