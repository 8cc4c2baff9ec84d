"""`sartor data check`: what people see, what programs read, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sartor.cli.main import run

GOOD = [{"prompt": f"question number {n} about {n * 7919}", "completion": f"answer {n * 31}"} for n in range(20)]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sound_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", [{**row, "channel": "mail"} for row in GOOD])
    assert run(["data", "check", "a.jsonl"]) == 0
    said = capsys.readouterr()
    assert "a.jsonl   20 rows   prompt_completion" in said.out
    assert "first prompt  question number 0" in said.out
    assert "not used by the format  channel" in said.out
    assert "0 errors, 0 warnings in 20 records" in said.out
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"], "nothing is written"


def test_faults_go_to_stderr_with_the_place_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", [*GOOD, {"prompt": "p", "completion": None}, GOOD[0]])
    assert run(["data", "check", "a.jsonl", "gone.jsonl"]) == 2
    said = capsys.readouterr()
    assert 'a.jsonl:21: error D111: "completion" is null' in said.err
    assert "gone.jsonl: error D113" in said.err
    assert "a.jsonl:22: warning D150: same as a.jsonl:1" in said.out
    assert "2 errors, 1 warning in 22 records" in said.out


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", [*GOOD, {"prompt": "p", "completion": None}])
    assert run(["data", "check", "a.jsonl", "--json"]) == 2
    body = json.loads(capsys.readouterr().out)
    assert body["files"] == [
        {"path": "a.jsonl", "format": "prompt_completion", "records": 21, "skipped": 1, "unused": []}
    ]
    (finding,) = body["findings"]
    assert {"code", "level", "file", "line", "rows", "message", "fix"} <= finding.keys()
    assert (finding["code"], finding["level"], finding["file"], finding["line"]) == ("D111", "error", "a.jsonl", 21)


def test_a_recipe_is_checked_with_its_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", GOOD)
    (tmp_path / "r.yaml").write_text("base: sartor/nano\ndata: a.jsonl\n", encoding="utf-8")
    assert run(["data", "check", "r.yaml"]) == 0
    out = capsys.readouterr().out
    assert "split  train 16   validation 2   test 2" in out
    assert "likeness to training rows: median" in out
    assert run(["data", "check", "r.yaml", "--json"]) == 0
    (split,) = json.loads(capsys.readouterr().out)["splits"]
    assert split["rows"] == {"train": 16, "validation": 2, "test": 2}
    assert split["residual"]["max"] < 0.8


def test_a_recipe_that_does_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("base: sartor/nano\ndta: a.jsonl\n", encoding="utf-8")
    assert run(["data", "check", "r.yaml"]) == 2
    assert "r.yaml:2" in capsys.readouterr().err


def test_a_single_row_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", GOOD[:1])
    write(tmp_path / "b.jsonl", [{"text": "of another kind"}])
    assert run(["data", "check", "a.jsonl", "b.jsonl"]) == 0
    assert "0 errors, 0 warnings in 2 records" in capsys.readouterr().out


def test_what_the_rows_are_like_is_shown_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", GOOD)
    assert run(["data", "check", "a.jsonl"]) == 0
    assert "median 5   95 % up to 5   longest 5 words" in capsys.readouterr().out
    assert run(["data", "check", "a.jsonl", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["profile"]
    assert (told["rows"], told["lengths"]["prompt"]["largest"], told["lengths"]["answer"]["median"]) == (20, 5, 2)


def test_a_report_of_a_file_and_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", [*GOOD, GOOD[3]])
    (tmp_path / "r.yaml").write_text("base: sartor/nano\ndata: a.jsonl\n", encoding="utf-8")
    for target in ("a.jsonl", "r.yaml"):
        assert run(["data", "check", target, "--html", "out/report.html"]) == 0
        assert "out/report.html" in capsys.readouterr().out
        text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        body = json.loads(text.partition('id="body">')[2].partition("</script>")[0])
        (finding,) = body["findings"]
        assert (finding["code"], finding["held"]) == ("D150", ["a.jsonl:21"])
        row = next(row for row in body["rows"] if row["where"] == "a.jsonl:21")
        assert ("pieces" in row) == (target == "r.yaml")
    assert [text for text, weight, _ in row["pieces"] if weight] == ["answer 93", "<|im_end|>"]
    assert row["learnt"] < row["tokens"]


def test_questions_that_will_be_measured_on_are_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", GOOD)
    write(tmp_path / "bench.jsonl", [{"question": GOOD[4]["prompt"]}])
    (tmp_path / "r.yaml").write_text("base: sartor/nano\ndata: a.jsonl\n", encoding="utf-8")
    for target in ("a.jsonl", "r.yaml"):
        assert run(["data", "check", target, "--against", "bench.jsonl"]) == 2
        said = capsys.readouterr()
        assert "a.jsonl:5: error D153: asks the same as bench.jsonl:1" in said.err
        assert "against bench.jsonl (1 item): 1 rows the same" in said.out
    assert run(["data", "check", "a.jsonl", "--difficulty"]) == 2
    assert "R151" in capsys.readouterr().err


def test_what_cleaning_did_is_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", [*GOOD, GOOD[3], {**GOOD[4], "prompt": "  a question with blanks "}])
    recipe = "base: sartor/nano\ndata: {sources: [a.jsonl], clean: [whitespace, duplicates]}\n"
    (tmp_path / "r.yaml").write_text(recipe, encoding="utf-8")
    assert run(["data", "check", "r.yaml"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith(" clean.")]
    assert rows == [["clean.whitespace", "22", "1", "0", "0"], ["clean.duplicates", "22", "0", "1", "0"]]
    assert "D190" not in out, "it would say the same again"
    assert run(["data", "check", "r.yaml", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["cleaned"][1] == {"stage": "duplicates", "rows": 22, "changed": 0, "dropped": 1, "suggested": 0}
    assert [finding["code"] for finding in body["findings"]] == ["D190", "D190"]
