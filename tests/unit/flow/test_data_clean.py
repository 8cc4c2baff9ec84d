"""`sartor data clean`, `restore`, `accept`, `unredact`: what people see, what lies in the folder, and the way back."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from sartor.cli.main import run

ROWS: list[dict[str, Any]] = [
    {"text": "My card  has not arrived, caf\u00c3\u00a9 ", "label": "card", "day": 1},
    *[{"text": f"Where is my order {n}? Mail bob{n % 3}@example.com", "label": "order", "day": n} for n in range(30)],
    {"text": "where is my ORDER 1? Mail bob1@example.com", "label": "order", "day": 40},
    {"text": "Where can it be", "label": "ordr", "day": 41},
    {"text": "x" * 9000, "label": "order", "day": 42, "meta.mail": {"of": "bob1@example.com"}},
]
STAGES = "unicode,whitespace,labels,duplicates=0.9,redact={what: [email], key_file: k.json},outliers"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", ROWS)
    return tmp_path


def cleaned(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert run(["data", "clean", "a.jsonl", "--out", "out", "--json", *more]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_the_folder_holds_what_was_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "a.jsonl").read_bytes()
    told = cleaned(capsys, "--stages", STAGES)
    assert (folder / "a.jsonl").read_bytes() == before
    assert (told["rows"], told["kept"], told["unread"], told["form"]) == (34, 32, 0, "as read")
    assert [(step["stage"], step["changed"], step["dropped"], step["suggested"]) for step in told["stages"]] == [
        ("unicode", 1, 0, 0), ("whitespace", 1, 0, 0), ("labels", 0, 0, 1), ("duplicates", 0, 1, 0), ("redact", 31, 0, 0), ("outliers", 0, 1, 0),
    ]  # fmt: skip
    rows = lines(folder / "out/rows.jsonl")
    assert rows[0] == {"text": "My card  has not arrived, caf\u00e9", "label": "card", "day": 1}
    assert all(list(row) == ["text", "label", "day"] for row in rows)
    assert not any("@" in json.dumps(row) for row in rows)
    assert {entry["rule"] for entry in lines(folder / "out/dropped.jsonl")} == {"clean.duplicates", "clean.outliers"}
    assert [(entry["before"], entry["after"]) for entry in lines(folder / "out/changed.jsonl")][-1] == (
        {"columns.meta~1mail.of": "bob1@example.com"}, {"columns.meta~1mail.of": next(row["text"].split()[-1] for row in rows if row["day"] == 4)},
    )  # fmt: skip
    assert lines(folder / "out/suggested.jsonl")[0]["what"] == 'label "ordr" -> "order"'
    assert json.loads((folder / "out/summary.json").read_text())["kept"] == 32


def test_what_comes_out_is_read_and_cleaning_it_again_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned(capsys, "--stages", "unicode,whitespace,duplicates")
    assert run(["data", "check", "out/rows.jsonl", "--json"]) in (0, 2)
    assert json.loads(capsys.readouterr().out)["files"][0] | {"unused": []} == {
        "path": "out/rows.jsonl", "format": "labeled", "records": 33, "skipped": 0, "unused": [],
    }  # fmt: skip
    first = (folder / "out/rows.jsonl").read_bytes()
    assert run(["data", "clean", "out/rows.jsonl", "--out", "again", "--stages", "unicode,whitespace,duplicates"]) == 0
    assert (folder / "again/rows.jsonl").read_bytes() == first


def test_the_same_command_writes_the_same_bytes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = []
    for _ in range(2):
        cleaned(capsys, "--stages", STAGES)
        both.append(
            {path.relative_to(folder): path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
        )
    assert both[0] == both[1]


def test_everything_can_be_taken_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned(capsys, "--stages", STAGES)
    assert run(["data", "restore", "out", "--all"]) == 0
    assert (folder / "out/rows.jsonl").read_bytes() == (folder / "a.jsonl").read_bytes()
    assert [(folder / "out" / name).read_bytes() for name in ("dropped.jsonl", "changed.jsonl")] == [b"", b""]


def test_one_stage_or_one_row_is_taken_back_and_the_rest_stays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned(capsys, "--stages", STAGES)
    assert run(["data", "restore", "out", "--stage", "unicode"]) == 0
    assert lines(folder / "out/rows.jsonl")[0]["text"] == "My card  has not arrived, caf\u00c3\u00a9"
    assert run(["data", "restore", "out", "--row", "a.jsonl:34", "--row", "a.jsonl:3"]) == 0
    rows = lines(folder / "out/rows.jsonl")
    assert rows[-1] == ROWS[33]
    assert [row["text"] for row in rows if row["day"] == 1 and row["label"] == "order"] == [ROWS[2]["text"]]
    assert sum("@" in json.dumps(row) for row in rows) == 2, "the others stay redacted"


def test_a_text_that_was_redacted_stays_so_when_an_earlier_stage_is_taken_back(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "a.jsonl", [{"text": "caf\u00c3\u00a9 of bob@example.com ", "label": "a"}])
    cleaned(capsys, "--stages", "unicode,whitespace,redact")
    assert run(["data", "restore", "out", "--stage", "unicode"]) == 0
    assert "@" not in (folder / "out/rows.jsonl").read_text()


def test_suggestions_are_taken_up_and_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned(capsys, "--stages", "labels")
    assert run(["data", "accept", "out", "--stage", "labels"]) == 0
    assert lines(folder / "out/rows.jsonl")[32] == ROWS[32] | {"label": "order"}
    assert (folder / "out/suggested.jsonl").read_bytes() == b""
    assert run(["data", "restore", "out", "--stage", "labels", "--row", "a.jsonl:33"]) == 0
    assert lines(folder / "out/rows.jsonl")[32] == ROWS[32]
    assert len(lines(folder / "out/suggested.jsonl")) == 1


def test_values_come_back_with_the_key_file_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned(capsys, "--stages", "redact={what: [email], key_file: k.json}")
    assert stat.S_IMODE((folder / "k.json").stat().st_mode) == 0o600
    assert run(["data", "unredact", "out/rows.jsonl", "--key", "k.json", "--out", "named.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": "named.jsonl", "lines": 34, "restored": 32, "unknown": 0}
    assert lines(folder / "named.jsonl") == ROWS
    assert run(["data", "unredact", "out/rows.jsonl", "--key", "none.json", "--out", "x"]) == 2
    assert "S330" in capsys.readouterr().err


def test_without_stages_a_careful_choice_is_made_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "clean", "a.jsonl", "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert "nobody named stages" in said
    assert "data: {clean: [unicode, whitespace, labels, {duplicates: {similarity: 0.9}}]}" in said
    assert "caf\u00c3\u00a9" in said
    assert "sartor data accept out --stage labels" in said


def test_a_recipe_is_cleaned_as_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "q.jsonl", [{"q": f"Who  is {n}?", "a": {"name": f"n {n} "}} for n in range(5)])
    recipe = "base: sartor/nano\ndata:\n  sources: [{path: q.jsonl, map: {prompt: q, completion: a}, format: prompt_completion}]\n"
    (folder / "r.yaml").write_text(recipe + "  clean: [{whitespace: {inside: true}}]\n")
    assert run(["data", "clean", "r.yaml", "--out", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clean"] == "[{whitespace: {inside: true}}]"
    assert lines(folder / "out/rows.jsonl")[1] == {"q": "Who is 1?", "a": {"name": "n 1 "}}


def test_files_of_several_forms_come_out_in_ours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "b.jsonl", [{"instruction": "Say  hi.", "input": "", "output": "Hi."}])
    assert run(["data", "clean", "a.jsonl", "b.jsonl", "--out", "out", "--stages", "whitespace", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["form"] == "ours"
    assert all("messages" in row for row in lines(folder / "out/rows.jsonl"))
    assert run(["data", "check", "out/rows.jsonl"]) == 0


def test_rows_that_cannot_be_read_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "a.jsonl").open("a") as file:
        file.write('{"text": "x", "label": null}\n')
    assert cleaned(capsys, "--stages", "whitespace")["unread"] == 1
    (entry,) = lines(folder / "out/dropped.jsonl")
    assert (entry["line"], entry["rule"]) == (35, "D111")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["clean", "a.jsonl", "--out", "out", "--stages", "unicod"],
            'R105: unknown stage "unicod"; did you mean "unicode"',
        ),
        (["clean", "a.jsonl", "--out", "out", "--stages", "duplicates=2"], "R103: data.clean[0].duplicates.similarity"),
        (["clean", "gone.jsonl", "--out", "out"], "D113"),
        (["clean", "a.jsonl", "a.jsonl", "--out", "out"], "D186"),
        (["clean", "a.jsonl", "--out", "."], "D187"),
        (["clean", "r.yaml", "a.jsonl", "--out", "out"], "D188"),
        (["restore", ".", "--all"], "D189"),
        (["restore", "out", "--stage", "x"], "D189"),
        (["restore", "out"], "give --all"),
    ],
)
def test_what_cannot_be_done_is_refused(
    arguments: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not (folder / "out").exists()
    assert [path.name for path in folder.iterdir()] == ["a.jsonl"]


def test_a_row_or_stage_that_is_not_there_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned(capsys, "--stages", "whitespace")
    for arguments, told in (
        (["--stage", "whitspace"], 'did you mean "whitespace"'),
        (["--row", "a.jsonl:99"], 'no row "a.jsonl:99"'),
    ):
        assert run(["data", "restore", "out", *arguments]) == 2
        assert told in capsys.readouterr().err


def test_what_suggested_nothing_cannot_be_accepted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned(capsys, "--stages", "whitespace,labels")
    assert run(["data", "accept", "out", "--stage", "whitespace"]) == 2
    assert "D185: whitespace suggested nothing" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("clean", "a.jsonl"), ("export", "a.jsonl", "--as", "jsonl")])
def test_a_place_that_cannot_be_written_is_a_fault_of_the_machine(
    words: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", *words, "--out", "a.jsonl/below"]) == 3
    assert "F131" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["a.jsonl"]


def test_the_file_with_the_placeholders_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned(capsys, "--stages", "redact={what: [email], key_file: k.json}")
    for out, code, told in (("out/rows.jsonl", 2, "D187"), ("k.json", 2, "D187"), ("a.jsonl/below", 3, "F131")):
        before = (folder / "k.json").read_bytes(), (folder / "out/rows.jsonl").read_bytes()
        assert run(["data", "unredact", "out/rows.jsonl", "--key", "k.json", "--out", out]) == code
        assert told in capsys.readouterr().err
        assert ((folder / "k.json").read_bytes(), (folder / "out/rows.jsonl").read_bytes()) == before
