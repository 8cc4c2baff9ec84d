from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sartor
from sartor.errors import RunError
from sartor.events import Noted, Started, Stepped
from sartor.store import run as runs
from sartor.store.run import Run, find, history

DIGEST = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(sartor.__file__).parents[1])}


def stepped(step: int) -> Stepped:
    return Stepped(step, 9, 0.1, 1.0, 1e-3, 1.0, 10, 5, 0.1, 0)


def code(caught: pytest.ExceptionInfo[RunError]) -> str:
    (problem,) = caught.value.problems
    return problem.code


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_run_has_the_agreed_name_and_first_line(tmp_path: Path) -> None:
    with Run.create(tmp_path / "runs", "Support tickets/2", DIGEST, about={"base": "sartor/nano"}) as run:
        assert run.folder.name == f"{time.strftime('%Y-%m-%d')}_Support-tickets-2_01234567"
        assert run.state == "created"
        (first,) = run.events()
    assert {key: first[key] for key in ("event", "state", "name", "digest", "about")} == {
        "event": "run", "state": "created", "name": "Support-tickets-2", "digest": DIGEST, "about": {"base": "sartor/nano"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "folder"), [("../../etc", "etc"), ("", "run"), ("...", "run"), ("a b\nc", "a-b-c"), ("ä" * 9, "run")]
)
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str, folder: str) -> None:
    with Run.create(tmp_path, name, DIGEST) as run:
        assert run.folder.parent == tmp_path
        assert run.folder.name.split("_")[1] == folder


def test_states_follow_the_marks(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "name", DIGEST)
    run.mark("running")
    assert run.state == "running"
    assert Run.open(run.folder).state == "running"
    run.close()
    assert run.state == "interrupted"
    with Run.create(tmp_path, "name", DIGEST) as again:
        assert again.folder == run.folder
        again.mark("failed", "N401")
        assert again.state == "failed"
        again.mark("finished")
    assert again.state == "finished"


def test_a_finished_run_is_recognised_and_cannot_be_written(tmp_path: Path) -> None:
    with Run.create(tmp_path, "name", DIGEST) as run:
        run.write_json("verdict.json", {"pass": True})
        run.mark("finished")
    before = content(tmp_path)
    again = Run.create(tmp_path, "name", DIGEST)
    assert again.state == "finished"
    with pytest.raises(ValueError, match="reading only"):
        again.log(stepped(1))
    with pytest.raises(ValueError, match="reading only"):
        again.write_json("verdict.json", {})
    with pytest.raises(RunError) as caught:
        again.lock()
    assert code(caught) == "F102"
    with pytest.raises(RunError) as caught:
        Run.into(run.folder, "name", OTHER)
    assert code(caught) == "F102"
    assert content(tmp_path) == before


def test_another_digest_is_another_run(tmp_path: Path) -> None:
    with Run.create(tmp_path, "name", DIGEST) as one, Run.create(tmp_path, "name", OTHER) as other:
        assert one.folder != other.folder
    same_start = DIGEST[:8] + OTHER[8:]
    with Run.into(tmp_path / f"2999-01-01_name_{DIGEST[:8]}", "name", same_start):
        pass
    with Run.create(tmp_path, "name", DIGEST) as again:
        assert again.folder == one.folder


def test_a_run_begun_yesterday_is_resumed(tmp_path: Path) -> None:
    with Run.into(tmp_path / f"2020-01-01_name_{DIGEST[:8]}", "name", DIGEST) as old:
        pass
    with Run.create(tmp_path, "renamed", DIGEST) as again:
        assert again.folder == old.folder


@pytest.mark.parametrize("left", [(), (".lock",), (".lock", "events.jsonl")])
def test_an_empty_folder_or_one_killed_at_birth_becomes_a_run(tmp_path: Path, left: tuple[str, ...]) -> None:
    for name in left:
        (tmp_path / name).write_text('{"time": 1, "event": "run", "sta' if name == "events.jsonl" else "")
    with Run.into(tmp_path, "name", DIGEST) as run:
        assert run.state == "created"


def test_a_folder_with_other_things_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    before = content(tmp_path)
    with pytest.raises(RunError) as caught:
        Run.into(tmp_path, "name", DIGEST)
    assert code(caught) == "F103"
    assert "thesis.tex" in str(caught.value)
    with pytest.raises(RunError) as caught:
        Run.into(tmp_path / "thesis.tex", "name", DIGEST)
    assert code(caught) == "F103"
    assert content(tmp_path) == before


def test_a_second_process_is_refused_at_once_by_name(tmp_path: Path) -> None:
    with Run.create(tmp_path, "name", DIGEST) as run:
        before = content(run.folder)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", _SECOND, str(run.folder)],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=True,
        )
        seconds = float(done.stdout.split()[0])
        assert time.monotonic() - began > seconds
        assert seconds < 1
        assert f"error F101: this run is in use by process {os.getpid()}." in done.stdout
        assert content(run.folder) == before


_SECOND = f"""
import sys, time
from pathlib import Path
from sartor.errors import RunError
from sartor.store.run import Run
began = time.monotonic()
try:
    Run.into(Path(sys.argv[1]), "name", "{DIGEST}")
except RunError as fault:
    print(time.monotonic() - began, fault)
"""


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    script = (
        f"import os, sys, time; from pathlib import Path; from sartor.store.run import Run; "
        f"run = Run.into(Path(sys.argv[1]), 'name', '{DIGEST}'); run.mark('running'); "
        f"os.fork() or print(os.getpid(), flush=True); time.sleep(60)"
    )
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    assert Run.open(folder).state == "running"
    process.kill()
    process.wait()
    process.stdout.close()
    try:  # its forked worker lives on, and must not hold the lock
        assert Run.open(folder).state == "interrupted"
        with Run.into(folder, "name", DIGEST) as run:
            assert run.state == "running"
    finally:
        os.kill(worker, signal.SIGKILL)


def test_what_is_not_a_run_is_said_to_be_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError) as caught:
            Run.open(folder)
        assert code(caught) == "F104"
    (tmp_path / "events.jsonl").write_text('{"event": "step", "step": 1}\n')
    assert not runs.is_run(tmp_path)
    with pytest.raises(RunError):
        Run.open(tmp_path)


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    with Run.create(tmp_path, "name", DIGEST) as run:
        assert run.read_json("verdict.json") is None
        (run.folder / "verdict.json").write_text('{"pass": ')
        with pytest.raises(RunError) as caught:
            run.read_json("verdict.json")
    assert code(caught) == "F106"
    assert history(tmp_path)[0].state == "damaged"


def made(root: Path, folder: str, began: float, **verdict: object) -> None:
    run = Run.into(root / folder, folder.split("_")[1], folder.rpartition("_")[2] * 8, about={"method": "lora"})
    run.close()
    path = run.folder / "events.jsonl"
    first = json.loads(path.read_text())
    marks = [{**first, "time": began}]
    marks += [{"time": began + 1, "event": "run", "state": "running"}, {"time": began + 4, "event": "step", "step": 1}]
    marks += [
        {"time": began + 100, "event": "run", "state": "running"},
        {"time": began + 102, "event": "step", "step": 2},
    ]
    if verdict:
        marks.append({"time": began + 103, "event": "run", "state": "finished"})
        (run.folder / "verdict.json").write_text(json.dumps(verdict))
    path.write_text("".join(json.dumps(mark) + "\n" for mark in marks))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made(tmp_path, "2026-11-20_tickets_aaaaaaaa", 500.0, **{"pass": False, "scores": {"tuned": {"bleu": 12.5}}})
    gates = [{"metric": "f1", "rule": "better_than base", "value": 0.2, "pass": True}]
    scores = {"tuned": {"accuracy": {"value": 0.9}, "f1": {"value": 0.8}}}
    made(tmp_path, "2026-11-21_tickets_bbbbbbbb", 300.0, **{"pass": True, "gates": gates, "scores": scores})
    made(tmp_path, "2026-11-21_support_cccccccc", 200.0)
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_history_tells_each_run(root: Path) -> None:
    summaries = history(root)
    told = [(run.name, run.date, run.state, run.verdict, run.metric, run.value, run.seconds) for run in summaries]
    assert told == [
        ("tickets", "2026-11-20", "finished", "failed", "bleu", 12.5, 6.0),
        ("support", "2026-11-21", "interrupted", None, None, None, 5.0),
        ("tickets", "2026-11-21", "finished", "passed", "f1", 0.8, 6.0),
    ]
    assert [run.method for run in summaries] == ["lora"] * 3
    assert history(root / "nowhere") == []


@pytest.mark.parametrize(
    ("reference", "folder"),
    [
        ("latest", "2026-11-21_tickets_bbbbbbbb"),
        ("runs/latest", "2026-11-21_tickets_bbbbbbbb"),
        ("support", "2026-11-21_support_cccccccc"),
        ("runs/support", "2026-11-21_support_cccccccc"),
        ("aaaa", "2026-11-20_tickets_aaaaaaaa"),
        ("2026-11-20", "2026-11-20_tickets_aaaaaaaa"),
        ("runs/2026-11-21_tickets_bbbbbbbb/", "2026-11-21_tickets_bbbbbbbb"),
    ],
)
def test_a_run_is_found_by_what_a_user_types(
    root: Path, reference: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = root.parent / f"{root.name}-home"
    place.mkdir()
    (place / "runs").symlink_to(root)
    monkeypatch.chdir(place)
    assert find(reference, Path("runs")).folder.name == folder


@pytest.mark.parametrize(
    ("reference", "expected"), [("tickets", "F105"), ("2026-11-21", "F105"), ("nothing", "F104"), ("notes", "F104")]
)
def test_a_run_that_is_not_there_or_not_alone(root: Path, reference: str, expected: str) -> None:
    with pytest.raises(RunError) as caught:
        find(reference, root)
    assert code(caught) == expected


def test_latest_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        find("latest", tmp_path)
    assert code(caught) == "F104"


def test_the_log_holds_events_and_only_marks_count(tmp_path: Path) -> None:
    with Run.create(tmp_path, "name", DIGEST) as run:
        run.log(Started(0, 9, 1.0, 1, 1))
        run.log(Noted("info", "X", '{"event": "run", "state": "finished"}'))
        run.log(stepped(1))
        assert run.state == "created"
        assert [event["event"] for event in run.events()] == ["run", "started", "note", "step"]
