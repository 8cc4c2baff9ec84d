"""`sartor predict`: rows keep what they have, a stopped call continues, and nothing of the user's is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sartor
from sartor.cli.main import run
from sartor.errors import DataError, RunError
from sartor.evaluate import predict as measuring
from sartor.events import Event, Progressed
from sartor.flow import predict as flow
from sartor.flow.predict import Predicted, predict


def asked(path: Path, count: int = 7) -> Path:
    rows = [{"prompt": f"question {number}" * (number % 3 + 1), "topic": number} for number in range(count)]
    rows[2]["id"] = "mine"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def call(model: Path, source: Path, output: Path, events: list[Event] | None = None, **options) -> Predicted:
    see = (lambda event: None) if events is None else events.append
    return predict(str(model), source, output, **{"max_new_tokens": 5, "batch": 2, "emit": see, **options})


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_keep_their_columns_and_gain_a_prediction(byte_model: Path, tmp_path: Path) -> None:
    source, output, events = asked(tmp_path / "in.jsonl"), tmp_path / "new/out.jsonl", []
    result = call(byte_model, source, output, events)
    made = lines(output)
    model = sartor.load(byte_model)
    for number, row in enumerate(made):
        assert row["topic"] == number
        assert row["prediction"] == model.chat(row["prompt"], max_new_tokens=5)
    assert [row["id"] for row in made] == ["mine" if n == 2 else f"{source}:{n + 1}" for n in range(7)]
    assert (result.rows, result.already_done) == (7, 0)
    assert [event for event in events if isinstance(event, Progressed)][-1] == Progressed("rows", 7, 7)


def test_a_stopped_call_continues_and_a_finished_one_does_nothing(
    byte_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = asked(tmp_path / "in.jsonl")
    call(byte_model, source, tmp_path / "whole.jsonl")
    output = tmp_path / "out.jsonl"
    block = measuring.Measurer.block
    monkeypatch.setattr(measuring, "BLOCK_BATCHES", 1)

    def fails(self, rows):
        if rows[0].columns or rows[0].origin.line > 4:
            raise KeyboardInterrupt
        return block(self, rows)

    monkeypatch.setattr(measuring.Measurer, "block", fails)
    with pytest.raises(KeyboardInterrupt):
        call(byte_model, source, output)
    with output.open("a") as file:
        file.write('{"id": "torn')
    monkeypatch.setattr(measuring.Measurer, "block", block)
    assert call(byte_model, source, output).already_done == 4
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    monkeypatch.setattr(flow, "load", None)
    assert call(byte_model, source, output).already_done == 7


def test_other_inputs_are_refused(byte_model: Path, other_model: Path, tmp_path: Path) -> None:
    source, output = asked(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    call(byte_model, source, output)
    before = output.read_bytes()
    with pytest.raises(RunError, match=r"F141: .*changed: weights\)"):
        call(other_model, source, output)
    with pytest.raises(RunError, match=r"changed: max_new_tokens\)"):
        call(byte_model, source, output, max_new_tokens=6)
    asked(source, 8)
    with pytest.raises(RunError, match=r"changed: input\)"):
        call(byte_model, source, output)
    assert output.read_bytes() == before


def test_foreign_files_are_never_written_to(byte_model: Path, tmp_path: Path) -> None:
    source = asked(tmp_path / "in.jsonl")
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    with pytest.raises(RunError, match="F140"):
        call(byte_model, source, mine)
    with pytest.raises(RunError, match="F142"):
        call(byte_model, source, source)
    assert mine.read_text() == "precious"


def test_all_bad_rows_are_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a"}\n{"prompt": 3}\n{"promt": "a"}\n{"prompt" 3}\n')
    with pytest.raises(DataError) as fault:
        call(Path("nowhere"), source, tmp_path / "out.jsonl")
    assert [problem.line for problem in fault.value.problems] == [2, 3, 4]
    assert not (tmp_path / "out.jsonl").exists()


def test_command(byte_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = asked(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    arguments = ["predict", str(byte_model), "--input", str(source), "--output", str(output), "--max-new-tokens", "4"]
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 7
    assert run(arguments) == 0
    assert "7 rows answered, 7 of them before" in capsys.readouterr().out
    assert run([*arguments[:4], "--output", str(source), "--input", str(tmp_path / "none.jsonl")]) == 2
