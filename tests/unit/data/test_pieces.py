"""Parts of a large file, made in other processes: the result is that of one, whatever is in the file."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sartor.data.cleaning import spool
from sartor.data.crew import Crew
from sartor.data.opening import lines, lines_of, parts
from sartor.data.pieces import Workshop
from sartor.data.reader import Reader
from sartor.errors import SartorError
from sartor.recipe.schema import Data

SIZE = 1 << 14


def made(path: Path, count: int = 900) -> None:
    """Rows, sound and faulty, with columns that come late, blank lines and letters beyond ASCII."""
    draw = random.Random(4)
    words = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiouä" for c in "nrs"]
    with path.open("w", encoding="utf-8") as file:
        file.write("\ufeff")
        for number in range(count):
            row: dict[str, Any] = {
                "prompt": " ".join(draw.choices(words, k=9)),
                "completion": "  ".join(draw.choices(words, k=draw.randint(1, 7))) + " <b>!</b>",
            }
            if number > 300:
                row[f"later{number // 200}"] = number
            if number % 97 == 5:
                row["completion"] = None
            text = json.dumps(row, ensure_ascii=number % 2 == 0)
            if number % 89 == 7:
                text = text[:-9]
            file.write(text + ("\n\n" if number % 50 == 0 else "\r\n" if number % 31 == 0 else "\n"))
        file.write('{"prompt": "the last line has no end", "completion": "none"}')


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data in one process and in two: folders `1` and `2`, and what was told of each."""
    folder = tmp_path_factory.mktemp("pieces")
    made(folder / "big.jsonl")
    (folder / "small.jsonl").write_text('{"prompt": "a  b", "completion": "c"}\n', encoding="utf-8")
    data = Data.model_validate(
        {
            "sources": [{"path": "small.jsonl", "role": "test"}, {"path": "big.jsonl", "map": {}}],
            "clean": [
                {"whitespace": {"inside": True}},
                {"length": {"unit": "words", "answer_min": 3}},
                "duplicates",
                "html",
            ],
        }
    )
    for processes in (1, 2):
        reader = Reader(data, folder, lambda event: None)
        own = folder / str(processes)
        with Workshop(data.clean, own / "pieces", processes=processes, size=SIZE) as workshop:
            dataset, roles, steps = spool(reader.flow(workshop), data.clean, own, lambda event: None)
        shingles = [each.tolist() for each in dataset.shingles().gather(np.arange(len(dataset)))]
        told = [
            reader.findings.json(),
            [list(map(str, each)) for each in reader.findings.dropped],
            roles.tolist(),
            list(map(vars_of, steps)),
            shingles,
        ]
        (own / "told.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def vars_of(step: Any) -> dict[str, Any]:
    """A step of cleaning as an object."""
    return {name: getattr(step, name) for name in step.__slots__}


def test_two_processes_write_what_one_writes(prepared: Path) -> None:
    written = [{path.name: path.read_bytes() for path in (prepared / name).iterdir()} for name in "12"]
    assert written[0].keys() == written[1].keys() >= {"rows.jsonl", "index.columns", ".removed.jsonl", "changed.jsonl"}
    for name in written[0]:
        assert written[0][name] == written[1][name], name
    findings, dropped, *_ = json.loads(written[0]["told.json"])
    assert {found["code"] for found in findings["findings"]} == {"D103", "D104", "D111"}
    assert len(dropped) > 15
    assert findings["files"][1]["unused"] == ["later1", "later2", "later3", "later4"]


@pytest.mark.parametrize("size", [1, 50, 3000, 1 << 20])
def test_parts_are_the_file(tmp_path: Path, size: int) -> None:
    made(tmp_path / "a.jsonl", 200)
    whole = list(lines(tmp_path / "a.jsonl", max_line_bytes=120))
    found = list(parts(tmp_path / "a.jsonl", size))
    assert [found[0].begin, found[-1].end] == [0, (tmp_path / "a.jsonl").stat().st_size]
    assert [item for part in found for item in lines_of(tmp_path / "a.jsonl", part, max_line_bytes=120)] == whole


@pytest.mark.parametrize(("name", "change"), [("a.jsonl", {"id": "name"}), ("a.csv", {})])
def test_files_that_cannot_be_parted(tmp_path: Path, name: str, change: Mapping[str, Any]) -> None:
    made(tmp_path / "a.jsonl")
    made(tmp_path / name)
    source = Data.model_validate({"sources": [{"path": name, **change}]}).sources[0]
    reader = Reader(Data.model_validate({"sources": [{"path": "a.jsonl"}]}), tmp_path, lambda event: None)
    with Workshop((), tmp_path / "pieces", processes=2, size=SIZE) as workshop:
        assert workshop.parts(tmp_path / name, source, name, -1, 1 << 20, reader.findings) is None
    with Workshop((), tmp_path / "pieces", processes=2) as workshop:
        source = source.model_copy(update={"id": None, "format": "auto"})
        assert workshop.parts(tmp_path / "a.jsonl", source, "a.jsonl", -1, 1 << 20, reader.findings) is None


def die(given: Mapping[str, Any]) -> dict[str, Any]:
    """A worker that is ended by the system, as by its memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def echo(given: Mapping[str, Any]) -> dict[str, Any]:
    """Answers with the question, and prints."""
    print("not an answer")
    time.sleep(given["seconds"])
    return {"said": given["number"], "process": os.getpid()}


def test_answers_come_in_order_from_several_processes() -> None:
    with Crew(2) as crew:
        asked = [(f"{number}", {"number": number, "seconds": 0.02 * (number % 3)}) for number in range(40)]
        answers = list(crew.each(echo, asked))
    assert [answer["said"] for answer in answers] == list(range(40))
    assert len({answer["process"] for answer in answers} - {os.getpid()}) == 2
    assert os.getpid() in {answer["process"] for answer in answers}


def test_a_worker_that_dies_is_named_and_no_other_is_left() -> None:
    processes: list[int] = []

    def work() -> None:
        with Crew(2) as crew:
            processes.extend(
                answer["process"] for answer in crew.each(echo, [("x", {"number": 1, "seconds": 0.1})] * 4)
            )
            list(crew.each(die, [("a.jsonl:1-40", {})]))

    with pytest.raises(SartorError, match=r"worker process \d+ was ended by signal 9 at a\.jsonl:1-40") as fault:
        work()
    assert fault.value.exit_code == 3
    assert len(set(processes)) == 2
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
