"""`sartor watch`: foreign lines and our own log, restarts that neither repeat nor miss an alarm, and the ways of telling."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import drifting
import pytest
from click.testing import CliRunner

from sartor.cli.main import sartor
from sartor.errors import InputError, RunError
from sartor.flow.watch import Wanted, follow, watch
from sartor.flow.watch_page import page
from sartor.monitor import segments
from sartor.monitor.alerts import Alert, parse
from sartor.monitor.log import RequestLog
from sartor.monitor.records import Feedback, Record

AT, COUNT = 900, 1300
FIRST = 400


def quiet(event: object) -> None:
    """Nobody listens."""


def wanted(path: Path, **more: object) -> Wanted:
    return replace(Wanted(str(path), maps=drifting.MAPS, first=FIRST), **more)


@pytest.fixture
def records() -> list:
    return list(drifting.stream(COUNT, 5, change=drifting.longer, at=AT))


def test_foreign_lines(tmp_path: Path, records: list) -> None:
    path = tmp_path / "calls.jsonl"
    drifting.write_foreign(path, records)
    found = watch(wanted(path), emit=quiet)
    assert found.exit_code == 1
    assert {alarm.feature for alarm in found.alarms} == {"prompt_characters", "prompt_words"}
    for alarm in found.alarms:
        assert AT < alarm.number <= AT + 60
        assert all(int(row.id[1:]) >= AT and row.prompt for row in found.rows[alarm.id])
    assert json.loads(json.dumps(found.json()))["alarms"][0]["rows"][0]["prompt"]
    html = page(found)
    assert "2 alarms" in html
    assert "<script" not in html


def test_since_and_model_leave_requests_out(tmp_path: Path, records: list) -> None:
    path = tmp_path / "calls.jsonl"
    drifting.write_foreign(path, records)
    found = watch(wanted(path, since="1970-01-12T14:01:40"), emit=quiet)  # 1,000,900 s
    assert found.requests == COUNT - AT
    assert not found.alarms
    with pytest.raises(InputError, match="V164"):
        watch(wanted(path, since="yesterday"), emit=quiet)
    with pytest.raises(InputError, match="V164"):
        watch(wanted(path, since="1970-01-12", maps=drifting.MAPS[2:]), emit=quiet)


def test_rows_are_a_reference_of_prompts(tmp_path: Path) -> None:
    path, data = tmp_path / "calls.jsonl", tmp_path / "rows.jsonl"
    rows = drifting.tickets()
    data.write_text(
        "".join(json.dumps({"prompt": row["prompt"], "completion": row["completion"]}) + "\n" for row in rows)
    )
    drifting.write_foreign(path, list(drifting.stream(600, 6)))
    assert watch(wanted(path, reference=str(data)), emit=quiet).exit_code == 0
    drifting.write_foreign(path, list(drifting.stream(600, 6, change=drifting.new_words)))
    found = watch(wanted(path, reference=str(data)), emit=quiet)
    assert min(alarm.number for alarm in found.alarms if alarm.feature == "prompt_new_words") <= 40


def test_a_line_that_is_no_json_and_columns_that_are_not_there(tmp_path: Path, records: list) -> None:
    path = tmp_path / "calls.jsonl"
    drifting.write_foreign(path, records[:3])
    with pytest.raises(InputError, match="V161"):
        watch(Wanted(str(path)), emit=quiet)
    with pytest.raises(InputError, match="V161"):
        watch(wanted(path, maps=("question=prompt",)), emit=quiet)
    path.write_text(path.read_text() + "oops\n")
    with pytest.raises(RunError, match=r":4: error V160"):
        watch(wanted(path), emit=quiet)


def ticks(count: int) -> object:
    left = iter(range(count))
    return lambda: next(left, None) is not None


def test_a_daemon_that_restarts_neither_repeats_nor_misses(tmp_path: Path, records: list) -> None:
    """Every session sees a part of the lines; a last line is half written."""
    path, told, state = tmp_path / "calls.jsonl", tmp_path / "told.jsonl", tmp_path / "state"
    path.touch()
    for begin in range(0, COUNT, 130):
        drifting.write_foreign(path, records[begin : begin + 130], mode="a")
        whole = path.read_text()
        path.write_text(whole + '{"key": "half')
        list(follow(wanted(path), alerts=[f"file:{told}"], state=state, every=0.01, emit=quiet, again=ticks(1)))
        path.write_text(whole)
    again = [json.loads(line) for line in told.read_text().splitlines()]
    once = watch(wanted(path), emit=quiet)
    assert [(each["id"], each["number"]) for each in again] == [(alarm.id, alarm.number) for alarm in once.alarms]
    with pytest.raises(RunError, match="V165"):
        list(follow(wanted(path, alpha=0.1), alerts=[], state=state, every=1, emit=quiet, again=ticks(0)))


def test_a_killed_daemon_goes_on(tmp_path: Path, records: list) -> None:
    path, told, state = tmp_path / "calls.jsonl", tmp_path / "told.jsonl", tmp_path / "state"
    drifting.write_foreign(path, records[:910])
    maps = [part for each in drifting.MAPS for part in ("--map", each)]
    options = [
        "--first",
        str(FIRST),
        "--follow",
        "--every",
        "0.1",
        "--state",
        str(state),
        "--alert",
        f"file:{told}",
        *maps,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "sartor", "watch", str(path), *options], stdout=subprocess.DEVNULL
    )
    try:
        _until(lambda: (state / "state.json").exists() and '"requests": 910' in (state / "state.json").read_text())
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    drifting.write_foreign(path, records[910:], mode="a")
    list(follow(wanted(path), alerts=[f"file:{told}"], state=state, every=0.01, emit=quiet, again=ticks(1)))
    once = watch(wanted(path), emit=quiet)
    assert [json.loads(line)["id"] for line in told.read_text().splitlines()] == [alarm.id for alarm in once.alarms]


def _until(true: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def logged(place: int, seen: object) -> dict:
    """As the server writes it."""
    return Record(
        id=seen.id, time=1e9 + place, route="chat", model="tuned", arm=None, ab=None, user=None,
        messages=({"role": "system", "content": "Be short."}, {"role": "user", "content": seen.prompt}),
        answers=(seen.answer,), ended=("stop",), prompt_tokens=20, made=30, seconds=seen.seconds,
    ).json()  # fmt: skip


def test_our_own_log_with_feedback(tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    log = RequestLog(folder, sync=60)
    for place, seen in enumerate(drifting.stream(700, 8)):
        log.append(logged(place, seen))
        thumb = "up" if place < 500 or place % 3 == 0 else "down"
        log.append(Feedback(of=seen.id, time=1e9 + place, thumb=thumb).json())
    log.close()
    found = watch(Wanted(str(folder), first=FIRST), emit=quiet)
    assert [alarm.feature for alarm in found.alarms] == ["score"]
    assert found.requests == 700
    with pytest.raises(InputError, match="V161"):
        watch(Wanted(str(folder), maps=("prompt=x",)), emit=quiet)


def test_rows_removed_from_a_log_between_two_looks_change_nothing(tmp_path: Path) -> None:
    folder, state = tmp_path / "requests", tmp_path / "state"
    log = RequestLog(folder, sync=60)
    lines = [logged(place, seen) for place, seen in enumerate(drifting.stream(600, 8))]
    for line in lines[:500]:
        log.append(line)
    wish = Wanted(str(folder), first=FIRST)
    assert watch(wish, state=state, emit=quiet).requests == 500
    (path,) = segments.segments(folder)
    with segments.exclusive(folder):
        segments.rewrite(path, lines[50:500])
    for line in lines[500:]:
        log.append(line)
    log.close()
    assert watch(wish, state=state, emit=quiet).requests == 600
    assert watch(wish, state=state, emit=quiet).requests == 600


@contextmanager
def hook(status: int, heard: list, *, location: str | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook?x=1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook_hears_the_alarm_and_is_not_led_elsewhere() -> None:
    heard: list = []
    elsewhere: list = []
    with hook(204, heard) as address:
        assert parse(f"webhook:{address}").tell({"id": "a", "feature": "é"}) is None
        ((path, headers, body),) = heard
        assert path == "/hook?x=1"
        assert headers["Idempotency-Key"] == "a"
        assert json.loads(body) == {"id": "a", "feature": "é"}
    waits: list[float] = []
    with hook(200, elsewhere) as other, hook(302, heard, location=other) as address:
        assert Alert("webhook", address).tell({"id": "b"}, waits.append) == "it answered 302"
    assert (len(heard), elsewhere, waits) == (4, [], [2.0, 4.0])


def test_a_command_reads_the_alarm_and_sees_no_shell(tmp_path: Path) -> None:
    target = tmp_path / "a;b $HOME"
    assert Alert("command", f"tee '{target}'").tell({"id": "a"}) is None
    assert json.loads(target.read_text()) == {"id": "a"}
    assert "ended with 1" in str(Alert("command", "false").tell({"id": "a"}))
    assert Alert("command", "no-such-program").tell({"id": "a"}) == "No such file or directory"


def test_a_file_holds_no_alarm_twice(tmp_path: Path) -> None:
    path = tmp_path / "told.jsonl"
    path.write_text('{"id": "torn')
    for name in "aba":
        Alert("file", str(path)).tell({"id": name})
    assert [line[-3:] for line in path.read_text().splitlines()] == ["orn", 'a"}', 'b"}']


@pytest.mark.parametrize(
    "text",
    [
        "file:",
        "webhook:ftp://host/x",
        "webhook:file:///etc",
        "webhook:http://",
        "command:",
        "command:'x",
        "mail:x",
        "x",
    ],
)
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="V162"):
        parse(text)


def test_a_failing_alert_is_given_up_in_the_end(tmp_path: Path, records: list) -> None:
    path = tmp_path / "calls.jsonl"
    drifting.write_foreign(path, records)
    notes: list = []
    list(
        follow(wanted(path), alerts=["command:false"], state=tmp_path / "s", every=0, emit=notes.append, again=ticks(9))
    )
    codes = [note for note in notes if getattr(note, "code", "") == "V166"]
    assert len(codes) == 2 * 5
    assert codes[-1].message.endswith("it is given up")


def test_the_command(tmp_path: Path, records: list) -> None:
    path = tmp_path / "calls.jsonl"
    maps = [part for each in drifting.MAPS for part in ("--map", each)]
    drifting.write_foreign(path, records[:300])
    result = CliRunner().invoke(sartor, ["watch", str(path), *maps, "--json"])
    assert json.loads(result.stdout)["waiting"] == 700
    drifting.write_foreign(path, records)
    report = tmp_path / "drift.html"
    arguments = ["watch", str(path), *maps, "--first", "400", "--report", str(report)]
    result = CliRunner().invoke(sartor, arguments, standalone_mode=False)
    assert result.return_value == 1
    assert "ALARM characters of the prompt" in result.stdout
    assert report.read_text().startswith("<!doctype html>")
