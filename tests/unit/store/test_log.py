from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sartor.engine.trackers import jsonl
from sartor.errors import RunError, SartorError
from sartor.events import Noted, Saved, Stepped, Validated
from sartor.options import NoOptions
from sartor.store import log as logs
from sartor.store.run import Run


def stepped(step: int) -> Stepped:
    return Stepped(step, 9, 0.1, float("nan"), 1e-3, 1.0, 10, 5, 0.1, 0)


def steps(path: Path) -> list[int]:
    return [event["step"] for event in logs.read(path)]


def test_each_line_is_there_at_once_and_valid_json(tmp_path: Path) -> None:
    log = logs.Log(tmp_path / "events.jsonl")
    log.append(stepped(1))
    (event,) = logs.read(tmp_path / "events.jsonl")
    assert event["loss"] is None
    assert event["time"] > 1e9
    log.close()
    log.close()


def test_steps_are_synced_with_the_next_rare_event_or_every_fifty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logs.Log(tmp_path / "events.jsonl")
    synced: list[int] = []
    monkeypatch.setattr(logs.os, "fsync", lambda handle: synced.append(steps(tmp_path / "events.jsonl")[-1]))
    for step in range(1, 61):
        log.append(stepped(step))
    log.append(Validated(60, 0.5, {"loss": 1.0}, 1.0))
    log.append(stepped(61))
    log.append(Saved(61, "there"))
    log.append(stepped(62))
    log.close()
    assert synced == [50, 60, 61, 62]


@given(st.integers(0, 400), st.binary(max_size=3))
@example(len('{"event": "note", "step": 0, "message": ""}'), b"")
def test_a_torn_end_is_tolerated_and_mended(tmp_path_factory: pytest.TempPathFactory, cut: int, tail: bytes) -> None:
    """Cut the log anywhere, and let the disk add zeros or rubbish: whole lines stay, and appending goes on."""
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    lines = [json.dumps({"event": "note", "step": step, "message": "ä" * step}).encode() for step in range(6)]
    whole = b"\n".join(lines) + b"\n"
    kept = whole[: min(cut, len(whole))]
    spoilt = tail.replace(b"\n", b"\0")
    path.write_bytes(kept + spoilt)
    ended = kept.count(b"\n") + (not spoilt and kept.rpartition(b"\n")[2] in lines)
    assert steps(path) == list(range(ended))
    log = logs.Log(path)
    log.append(Noted("info", "X", "after", 99))
    log.close()
    assert steps(path) == [*range(ended), 99]
    assert path.read_bytes().count(b"\n") == ended + 1


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "a"}\n{"event": \n{"event": "b"}\n')
    with pytest.raises(RunError, match=r"events.jsonl:2: error F106"):
        list(logs.read(path))


def test_a_line_that_does_not_fit_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logs.Log(tmp_path / "events.jsonl")
    log.append(stepped(1))
    real = logs.os.write

    def full(handle: int, content: bytes) -> int:
        if len(content) > 20:
            return real(handle, content[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs.os, "write", full)
    with pytest.raises(SartorError, match="F130"):
        log.append(Noted("info", "X", "y", 2))
    monkeypatch.setattr(logs.os, "write", real)
    log.append(stepped(3))
    log.close()
    assert steps(tmp_path / "events.jsonl") == [1, 3]


def event(kind: str, step: int) -> dict[str, object]:
    return {"event": kind, "step": step}


def test_steps_taken_twice_appear_once() -> None:
    first = [event("started", 0), *(event("step", step) for step in (1, 2, 3, 4)), event("saved", 2), event("note", 4)]
    second = [event("started", 2), *(event("step", step) for step in (3, 4, 5)), event("finished", 5)]
    next_stage = [event("started", 0), event("step", 1)]
    kept = logs.unbroken([*first, *second, *next_stage])
    assert [entry["step"] for entry in kept if entry["event"] == "step"] == [1, 2, 3, 4, 5, 1]
    assert [entry["event"] for entry in kept if entry["event"] != "step"] == [
        "started", "saved", "started", "finished", "started",
    ]  # fmt: skip


def test_the_tracker_writes_into_the_run(tmp_path: Path) -> None:
    with Run.create(tmp_path, "name", "ab" * 32) as run:
        tracker = jsonl.build(run, NoOptions())
        tracker.see(stepped(1))
        tracker.close()
        tracker.see(stepped(2))
        assert [entry.get("step") for entry in run.events()] == [None, 1, 2]
