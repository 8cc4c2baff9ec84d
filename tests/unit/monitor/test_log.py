"""The request log: what was acknowledged is there after any kill, the index is what the segments say, a forgotten user is gone."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import logwriter
import pytest
from logwriter import record

from sartor.errors import InputError, RunError, SartorError
from sartor.monitor import removal, segments
from sartor.monitor.index import NAME, Index
from sartor.monitor.log import DAY, RequestLog
from sartor.monitor.records import Feedback
from sartor.monitor.redaction import ALL, Redaction, user_hash

WRITER = Path(logwriter.__file__)


def ids(folder: Path) -> list[str]:
    """Of all answers in the segments."""
    return [
        line.body["id"]
        for path in segments.segments(folder)
        for line in segments.lines(path)
        if line.body["kind"] == "answer"
    ]


def indexed(folder: Path) -> set[str]:
    index = Index(folder)
    index.catch_up()
    found = {entry.id for entry in index.latest(1_000_000)}
    index.close()
    return found


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    draw = random.Random(5)
    for round_ in range(12):
        process = subprocess.Popen(
            [sys.executable, str(WRITER), str(tmp_path / "log"), f"r{round_}", "0" if round_ % 2 else "0.05"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(draw.uniform(0, 0.15))
        process.kill()
        rest = process.stdout.read()
        process.wait()
        assert process.returncode == -signal.SIGKILL
        lines = (first + rest).split("\n")
        acknowledged += lines[:-1]
    kept = ids(tmp_path / "log")
    assert len(acknowledged) > 100
    assert len(kept) == len(set(kept))
    assert not set(acknowledged) - set(kept)
    assert indexed(tmp_path / "log") == set(kept)
    assert len(segments.segments(tmp_path / "log")) > 2


def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.append(record("a").json())
    log.close()
    (path,) = segments.segments(tmp_path)
    whole = path.read_bytes()
    line = segments.encoded(record("b").json())
    for cut in (1, 40, len(line) - 1):
        (tmp_path / NAME).unlink()
        path.write_bytes(whole + line[:cut])
        assert ids(tmp_path) == ["a"]
        assert indexed(tmp_path) == {"a"}
        again = RequestLog(tmp_path)
        again.append(record("c").json())
        again.close()
        assert ids(tmp_path) == ["a", "c"]
        assert again.index.folder == tmp_path


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    log.append(record("a").json())
    log.append(record("b").json())
    log.close()
    (path,) = segments.segments(tmp_path)
    head, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first[:30] + b"\n" + second)
    (tmp_path / NAME).unlink()
    with pytest.raises(RunError, match=r"\.jsonl:2: error V130"):
        RequestLog(tmp_path)


@pytest.mark.parametrize("damage", ["remove", "overwrite", "behind"])
def test_the_index_is_made_anew_from_the_segments(tmp_path: Path, damage: str) -> None:
    log = RequestLog(tmp_path, size=2_000)
    for number in range(9):
        log.append(record(f"a{number}", user=f"u{number % 2}").json())
    log.append(Feedback("a3", 5.0, thumb="down", correction="Tomorrow.").json())
    log.append(Feedback("a3", 6.0, thumb="up").json())
    log.close()
    if damage == "behind":
        base = sqlite3.connect(tmp_path / NAME)
        base.execute("DELETE FROM answer WHERE id > 'a4'")
        base.execute("UPDATE segment SET uid = 'other', read = read - 1")
        base.commit()
        base.close()
    else:
        for path in tmp_path.glob(f"{NAME}*"):
            path.unlink() if damage == "remove" else path.write_bytes(b"no database" * 1000)
    index = Index(tmp_path)
    index.catch_up()
    assert index.counted() == (9, 2)
    entry = index.find("a3")
    assert entry is not None
    assert (entry.thumb, entry.corrected) == ("up", True)
    assert [said.thumb for said in index.said("a3")] == ["down", "up"]
    assert {each.id for each in index.latest(9, user="u0")} == {f"a{number}" for number in (0, 2, 4, 6, 8)}
    assert index.body(entry) == record("a3", user="u1", time=entry.time)
    index.close()


def test_two_writers_share_a_folder(tmp_path: Path) -> None:
    one, two = RequestLog(tmp_path, size=3_000), RequestLog(tmp_path, size=3_000)
    for number in range(8):
        (one, two)[number % 2].append(record(f"a{number}").json())
    assert sorted(ids(tmp_path)) == [f"a{number}" for number in range(8)]
    one.index.catch_up()
    assert one.index.counted() == two.index.counted() == (8, 0)
    one.close()
    two.close()


def test_days_have_their_own_segments_and_old_ones_are_removed(tmp_path: Path) -> None:
    clock = [1_700_000_000.0]
    log = RequestLog(tmp_path, days=2, now=lambda: clock[0])
    for number in range(5):
        log.append(record(f"a{number}").json())
        clock[0] += DAY
    assert ids(tmp_path) == ["a2", "a3", "a4"]
    assert log.index.find("a0") is None
    assert log.index.find("a4") is not None
    log.close()


def test_a_forgotten_user_is_in_no_file_while_the_server_writes_on(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, size=3_000)
    policy = Redaction(ALL, ("US",), log.secret)
    for number in range(12):
        user = "ann" if number % 3 == 0 else "bob"
        messages = ({"role": "user", "content": f"I am {user}"},)
        log.append(policy.record(record(f"a{number}", user=user, messages=messages)).json())
    log.append(Feedback("a0", 1.0, comment="ann says hello").json())
    log.append(Feedback("a1", 1.0, thumb="up").json())
    removed = removal.forget(tmp_path, "ann")
    assert (removed.answers, removed.feedback) == (4, 1)
    log.append(policy.record(record("later", user="bob")).json())
    log.close()
    assert [name for name in ids(tmp_path) if name != "later"] == [f"a{number}" for number in range(12) if number % 3]
    hashed = user_hash("ann", log.secret)
    for path in tmp_path.iterdir():
        assert b"I am ann" not in path.read_bytes()
        assert b"ann says" not in path.read_bytes()
        assert hashed.encode() not in path.read_bytes(), path
    assert indexed(tmp_path) == set(ids(tmp_path))
    told = [
        line.body
        for path in segments.segments(tmp_path)
        for line in segments.lines(path)
        if line.body["kind"] == "removed"
    ]
    assert [(line["answers"], line["feedback"]) for line in told] == [(4, 1)]
    assert removal.forget(tmp_path, "ann").answers == 0
    with pytest.raises(InputError, match="V131"):
        removal.forget(tmp_path / "nowhere", "ann")


def test_texts_are_redacted_and_drawn_by_policy(tmp_path: Path) -> None:
    log = RequestLog(tmp_path)
    given = record(
        "a", user="ann", messages=({"role": "user", "content": "Mail bob@example.com"},), answers=("bob@example.com?",)
    )
    usual = Redaction(ALL, ("US",), log.secret).record(given)
    assert usual.messages is not None
    assert usual.answers is not None
    placeholder = usual.messages[0]["content"].removeprefix("Mail ")
    assert placeholder.startswith("[EMAIL_")
    assert usual.answers == (f"{placeholder}?",)
    assert usual.user == user_hash("ann", log.secret) != "ann"
    other = Redaction(ALL, ("US",), b"another secret").record(given)
    assert other.messages != usual.messages
    plain = Redaction((), (), log.secret).record(given)
    assert plain.messages == given.messages
    said = Feedback("a", 1.0, correction="Ask eve@example.com", comment="from eve@example.com")
    redacted = Redaction(ALL, ("US",), log.secret).feedback(said)
    assert "eve" not in f"{redacted.correction}{redacted.comment}"
    some = Redaction(ALL, (), log.secret, share=0.3)
    kept = sum(some.record(record(str(number))).messages is not None for number in range(1000))
    assert 230 < kept < 370
    assert some.record(record("x")).id == "x"
    log.close()


def test_a_disk_that_is_full_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RequestLog(tmp_path)
    log.append(record("a").json())
    write = os.write

    def refuse(handle: int, content: bytes) -> int:
        if content.startswith(b'{"kind": "answer"'):
            return write(handle, content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(SartorError, match="F130"):
        log.append(record("b").json())
    monkeypatch.setattr(os, "write", write)
    log.append(record("c").json())
    log.close()
    assert ids(tmp_path) == ["a", "c"]
