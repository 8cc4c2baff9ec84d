"""The server with a log: what is written, what people say of it, tests between models, and a shadow that costs nobody anything."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import job
import pytest
from click.testing import CliRunner
from serving import Running, running

from sartor.cli.main import sartor as command
from sartor.data.rows import Message
from sartor.errors import InputError, Problem, SartorError
from sartor.events import Event, Noted
from sartor.flow.serve import opened
from sartor.flow.serve_log import Keeper, LogSettings, Test, check, divided, kinds
from sartor.generate.sampling import Sampling
from sartor.monitor.guard import parse
from sartor.monitor.index import Entry, Index
from sartor.monitor.log import RequestLog
from sartor.monitor.records import Record
from sartor.serve.router import Router
from sartor.serve.scheduler import Full, Scheduler
from sartor.serve.served import Piece, Served, Wanted

CHAT = "/v1/chat/completions"
ROW = job.orders(1)[0]["prompt"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    home = tmp_path_factory.mktemp("models")
    return [f"{name}={job.save_model(home / name)}" for name in ("tuned", "base")]


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "requests"


@pytest.fixture
def server(models: list[str], folder: Path, told: list[Event]) -> Iterator[Running]:
    test = Test("ab", (("tuned", 90.0), ("base", 10.0)), (parse("thumb>=0.5"),))
    with running(models, keeper=Keeper(LogSettings(folder, sync=0), test, told.append), shadow="base") as found:
        yield found


def ask(server: Running, text: str = ROW, model: str = "tuned", path: str = CHAT, **given: Any) -> Any:
    prompt = {"messages": [{"role": "user", "content": text}]} if path == CHAT else {"prompt": text}
    body = {"model": model, "max_tokens": 5, "temperature": 0, **prompt, **given}
    answer = server.ask("POST", path, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def entries(folder: Path) -> list[Entry]:
    with closing(Index(folder)) as index:
        index.catch_up()
        return index.latest(10_000)


def body(folder: Path, name: str) -> Record:
    with closing(Index(folder)) as index:
        index.catch_up()
        entry = index.find(name)
        assert entry is not None, name
        return index.body(entry)


def logs(*args: object) -> Any:
    done = CliRunner().invoke(command, [*map(str, args), "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    return json.loads(done.stdout)


def test_an_answer_is_in_the_log_when_it_is_given(server: Running, folder: Path) -> None:
    answer = ask(server, "Mail bob@example.com", user="ann", n=2, temperature=1)
    record = body(folder, answer.json()["id"])
    assert answer.headers["x-request-id"] == record.id
    assert record.answers == tuple(choice["message"]["content"] for choice in answer.json()["choices"])
    assert record.made == answer.json()["usage"]["completion_tokens"]
    assert record.messages is not None
    assert record.messages[0]["content"].startswith("Mail [EMAIL_")
    assert record.user != "ann"
    assert (record.model, record.arm, record.ab) == ("tuned", None, None)
    assert b"bob@example" not in b"".join(path.read_bytes() for path in folder.iterdir())
    several = ask(server, path="/v1/completions", prompt=["one", "two"]).json()["id"]
    assert [body(folder, name).messages for name in (several, f"{several}.1")] == [
        ({"role": "user", "content": text},) for text in ("one", "two")
    ]


def test_a_stream_is_logged_before_its_end_and_when_its_reader_leaves(
    server: Running, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RequestLog.append

    def slow(log: RequestLog, line: dict[str, object]) -> None:
        time.sleep(0.3)
        append(log, line)

    monkeypatch.setattr(RequestLog, "append", slow)
    given = {"model": "tuned", "messages": [{"role": "user", "content": ROW}], "temperature": 0, "stream": True}
    text, name = "", ""
    for piece in server.client.chat.completions.create(**given, max_tokens=6):
        text += piece.choices[0].delta.content or ""
        name = piece.id
        if piece.choices[0].finish_reason:
            assert body(folder, name).answers == (text,)
    gone = server.client.chat.completions.create(**{**given, "temperature": 1}, max_tokens=200)
    name = next(iter(gone)).id
    gone.close()
    until = time.monotonic() + 10
    while name not in {entry.id for entry in entries(folder)} and time.monotonic() < until:
        time.sleep(0.02)
    assert body(folder, name).ended in (("gone",), ("stop",))


def test_feedback_joins_its_answer(server: Running, folder: Path, tmp_path: Path) -> None:
    liked, wrong, bad = (ask(server, f"{ROW} {number}").json()["id"] for number in range(3))
    for given in (
        {"id": liked, "score": 0.9},
        {"id": wrong, "thumb": "up"},
        {"id": wrong, "thumb": "down", "correction": "Ask eve@example.com", "comment": "no"},
        {"id": bad, "thumb": "down"},
    ):
        assert server.ask("POST", "/v1/feedback", json=given).json() == {
            "object": "feedback",
            "id": given["id"],
            "kept": True,
        }
    shown = logs("logs", "show", folder, wrong)
    assert [each.get("thumb") for each in shown["feedback"]] == ["up", "down"]
    found = {entry.id: entry for entry in entries(folder)}
    assert (found[wrong].thumb, found[wrong].corrected, found[liked].score) == ("down", True, 0.9)
    assert {each["id"] for each in logs("logs", "list", folder, "--said")["entries"]} == {liked, wrong, bad}
    done = logs("logs", "export", folder, "--out", tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    by = {row["request"]: row["messages"] for row in rows}
    assert by[wrong][-1]["content"].startswith("Ask [EMAIL_")
    assert by[wrong][0] == {"role": "user", "content": f"{ROW} 1"}
    assert (done["rows"] + done["left_out"], done["corrected"], bad in by) == (3, 1, False)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"id": "chatcmpl-unknown", "thumb": "up"}, 404),
        ({"id": "x"}, 400),
        ({"id": "x", "thumb": "sideways"}, 400),
        ({"id": "x", "score": 2}, 400),
        ({"thumb": "up"}, 400),
    ],
)
def test_feedback_that_cannot_be_kept_is_refused(server: Running, given: dict[str, Any], status: int) -> None:
    assert server.ask("POST", "/v1/feedback", json=given).status_code == status


def test_without_a_log_feedback_is_refused(models: list[str]) -> None:
    with running(models[:1]) as server:
        assert server.ask("POST", "/v1/feedback", json={"id": "x", "thumb": "up"}).status_code == 404


def test_users_keep_their_arm_and_shares_are_as_asked_for(server: Running, folder: Path) -> None:
    arms = {
        user: ask(server, model="ab", user=user, max_tokens=1).headers["x-sartor-arm"] for user in map(str, range(12))
    }
    for user, arm in arms.items():
        again = ask(server, model="ab", user=user, max_tokens=1)
        assert again.headers["x-sartor-arm"] == arm == again.json()["model"]
        assert body(folder, again.json()["id"]).arm == arm
    assert "x-sartor-arm" not in ask(server).headers
    assert "ab" in {each["id"] for each in server.ask("GET", "/v1/models").json()["data"]}
    router = Router("ab", {"tuned": 90, "base": 10})
    drawn = Counter(router.arm(str(user)) for user in range(20_000))
    assert abs(drawn["base"] / 20_000 - 0.1) < 0.01
    assert all(router.arm(user) == arm for user, arm in arms.items())
    assert any(
        Router("other", {"tuned": 90, "base": 10}).arm(str(user)) != router.arm(str(user)) for user in range(200)
    )


def test_an_arm_that_is_taken_out_leaves_its_users_to_the_others() -> None:
    router = Router("ab", {"a": 50, "b": 30, "c": 20})
    before = {user: router.arm(str(user)) for user in range(3000)}
    assert router.take_out("a")
    after = {user: router.arm(str(user)) for user in range(3000)}
    assert all(after[user] == arm for user, arm in before.items() if arm != "a")
    moved = Counter(after[user] for user, arm in before.items() if arm == "a")
    assert abs(moved["b"] / moved.total() - 0.6) < 0.05
    assert router.shares == {"a": 0.0, "b": 0.6, "c": 0.4}
    assert router.take_out("b")
    assert not router.take_out("c")


@pytest.mark.slow
def test_a_broken_guard_takes_its_arm_out_for_good(models: list[str], folder: Path, told: list[Event]) -> None:
    test = Test("ab", (("tuned", 50.0), ("base", 50.0)), (parse("thumb>=0.6"),))
    settings = LogSettings(folder)
    with running(models, keeper=Keeper(settings, test, told.append)) as server:
        out = 0
        for number in range(40):
            answer = ask(server, model="ab", user=str(number), max_tokens=1)
            arm = answer.headers["x-sartor-arm"]
            thumb = "down" if arm == "tuned" else "up"
            server.ask("POST", "/v1/feedback", json={"id": answer.json()["id"], "thumb": thumb})
            out = out + 1 if arm == "base" else 0
        assert out > 10
        assert 'sartor_share{ab="ab",arm="tuned"} 0.0' in server.ask("GET", "/metrics").text
    notes = [event for event in told if isinstance(event, Noted)]
    assert [note.code for note in notes] == ["V122"]
    standing = logs("ab", folder)
    assert (standing["verdict"], standing["winner"]) == ("winner", "base")
    assert [rollback["arm"] for rollback in standing["rollbacks"]] == ["tuned"]
    assert standing["rollbacks"][0]["high"] < 0.6
    told.clear()
    with closing(Keeper(settings, test, told.append)) as again:
        assert again.router is not None
        assert again.router.shares == {"tuned": 0.0, "base": 1.0}
    assert [event.code for event in told if isinstance(event, Noted)] == ["V121"]


def test_the_shadow_answers_the_same_and_nobody_is_sent_it(server: Running, folder: Path) -> None:
    name = ask(server, max_tokens=8, user="ann").json()["id"]
    until = time.monotonic() + 10
    while len(entries(folder)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    shadow, given = body(folder, f"{name}.shadow"), body(folder, name)
    assert (shadow.model, shadow.shadow_of, given.shadow_of) == ("base", name, None)
    assert (shadow.messages, shadow.user) == (given.messages, given.user)
    assert 'sartor_shadows_total{model="base",outcome="made"} 1.0' in server.ask("GET", "/metrics").text
    ask(server, model="base")
    time.sleep(0.2)
    assert len(entries(folder)) == 3


def wanted(served: list[Served], model: str, most: int) -> Wanted:
    ids = served[0].renderer.prompt([Message("user", ROW)]).astype("int64")
    return Wanted(model=model, prompt=ids, most=most, sampling=Sampling(1.0), seed=3)


def test_the_shadow_writes_nothing_while_anybody_waits(models: list[str]) -> None:
    served = opened(models, lambda event: None)
    scheduler = Scheduler(served, slots=2, places=256, queue=4, shadow="base")
    heard: list[tuple[str, Piece]] = []
    scheduler.start()
    scheduler.submit_shadow(wanted(served, "base", 150), lambda piece: heard.append(("shadow", piece)))
    while len(heard) < 3:
        time.sleep(0.001)
    before = len(heard)
    scheduler.submit(wanted(served, "tuned", 60), lambda piece: heard.append(("asked", piece)))
    until = time.monotonic() + 20
    while sum(piece.ended is not None for _, piece in heard) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    scheduler.close(5)
    who = [name for name, _ in heard]
    first, last = who.index("asked"), len(who) - 1 - who[::-1].index("asked")
    assert last - first > 10
    assert set(who[first:last]) == {"asked"}
    assert first - before < 10
    assert who[-1] == "shadow"


def test_the_shadow_is_dropped_first_when_the_queue_is_full(models: list[str]) -> None:
    served = opened(models, lambda event: None)
    scheduler = Scheduler(served, slots=1, places=256, queue=2, shadow="base")
    released = threading.Event()
    heard: list[str] = []

    def note(name: str) -> Callable[[Piece], None]:
        return lambda piece: heard.append(f"{name} {piece.ended}") if piece.ended else None

    scheduler.start()
    scheduler.call(released.wait)
    time.sleep(0.05)
    for name in ("s1", "s2"):
        scheduler.submit_shadow(wanted(served, "base", 2), note(name))
    with pytest.raises(Full):
        scheduler.submit_shadow(wanted(served, "base", 2), note("s3"))
    for name, dropped in (("p1", ["s1 dropped"]), ("p2", ["s1 dropped", "s2 dropped"])):
        scheduler.submit(wanted(served, "tuned", 2), note(name))
        assert heard == dropped
    with pytest.raises(Full):
        scheduler.submit(wanted(served, "tuned", 2), note("p3"))
    released.set()
    assert scheduler.close(10)
    assert {line.split()[0] for line in heard[2:]} == {"p1", "p2"}


@pytest.mark.parametrize(
    "shares", ["tuned", "tuned=90", "tuned=1,tuned=2", "tuned=0,base=1", "tuned=x,base=1", "=1,base=2"]
)
def test_shares_that_divide_nothing_are_refused(shares: str) -> None:
    with pytest.raises(InputError, match="V107"):
        divided("ab", shares, ())


def test_names_that_are_not_served_are_refused() -> None:
    served = [("tuned", True), ("base", True), ("head", False)]
    check(served, divided("ab", "tuned=1,base=1", ()), "base")
    for test, shadow, code in (
        (divided("ab", "tuned=1,other=1", ()), None, "V107"),
        (divided("ab", "tuned=1,head=1", ()), None, "V107"),
        (divided("base", "tuned=1,base=1", ()), None, "V107"),
        (None, "other", "V109"),
    ):
        with pytest.raises(InputError, match=code):
            check(served, test, shadow)
    with pytest.raises(InputError, match="V108"):
        kinds("email,names")
    assert kinds("none") == ()
    assert kinds("email, phone") == ("email", "phone")


def test_a_user_is_forgotten_while_the_server_runs(server: Running, folder: Path) -> None:
    for user in ("ann", "bob"):
        ask(server, user=user)
    server.idle()
    time.sleep(0.3)
    gone = logs("logs", "forget", folder, "--user", "ann")
    assert gone["answers"] == 2
    ask(server, user="bob")
    assert not logs("logs", "list", folder, "--user", "ann")["entries"]
    assert len(logs("logs", "list", folder, "--user", "bob")["entries"]) >= 2


def test_a_log_that_cannot_be_written_is_said_once_and_answers_go_on(
    server: Running, folder: Path, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: RequestLog, line: object) -> None:
        raise SartorError(Problem("F130", "the disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(RequestLog, "append", full)
        for _ in range(3):
            ask(server, model="base")
    assert [event.code for event in told if isinstance(event, Noted)] == ["V125"]
    assert "sartor_unlogged_total 3.0" in server.ask("GET", "/metrics").text
    ask(server, model="base")
    assert [event.code for event in told if isinstance(event, Noted)] == ["V125", "V124"]
