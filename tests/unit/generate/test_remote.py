"""Against a server of our own on this machine that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sartor.errors import ModelError
from sartor.generate.remote import TRIES, RemoteWriter

REPLY = json.dumps(
    {"choices": [{"message": {"content": "yes"}}], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}
)


class Server(ThreadingHTTPServer):
    """Gives the replies in `plan` first, then echoes."""

    plan: list[tuple[int, str]]
    seen: list[tuple[dict[str, str], dict[str, Any]]]
    url: str


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((dict(self.headers), body))
        echo = json.dumps({"choices": [{"message": {"content": body["messages"][0]["content"].upper()}}]})
        status, reply = self.server.plan.pop(0) if self.server.plan else (200, echo)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.plan, made.seen, made.url = [], [], f"http://127.0.0.1:{made.server_address[1]}/v1"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def ask(server: Server, *prompts: str, key: str | None = None) -> dict[int, str]:
    writer = RemoteWriter(server.url, "m", key, pause=0.001)
    return dict(writer.write(prompts, max_new_tokens=7, temperature=0.5, seed=3))


def test_every_question_gets_its_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "secret-1")
    assert ask(server, *"abcdefg", key="OUR_KEY") == dict(enumerate("ABCDEFG"))
    headers, body = server.seen[0]
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer secret-1"
    assert {key: body[key] for key in ("model", "max_tokens", "temperature", "seed")} == {
        "model": "m",
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
    }


def test_busy_servers_are_asked_again(server: Server) -> None:
    server.plan = [(503, "busy"), (429, "slow down")]
    assert ask(server, "a") == {0: "A"}
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("plan", "tries", "said"),
    [
        ([(500, "down")] * 9, TRIES, "status 500: down"),
        ([(401, "who are you")], 1, "status 401: who are you"),
        ([(200, "<html>")], 1, "not of OpenAI's chat form"),
        ([(200, '{"choices": [{"message": {"content": null}}]}')], 1, "holds no text"),
    ],
)
def test_what_cannot_be_mended_is_said(server: Server, plan: list[tuple[int, str]], tries: int, said: str) -> None:
    server.plan = list(plan)
    with pytest.raises(ModelError, match="M171") as caught:
        ask(server, "a")
    assert said in str(caught.value)
    assert len(server.seen) == tries


def test_nobody_there(server: Server) -> None:
    with pytest.raises(ModelError, match="M171"):
        list(
            RemoteWriter("http://127.0.0.1:9/v1", "m", pause=0.001).write(
                ["a"], max_new_tokens=1, temperature=0, seed=0
            )
        )


def test_a_key_is_there_and_travels_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUR_KEY", raising=False)
    with pytest.raises(ModelError, match=r"M170.*OUR_KEY"):
        RemoteWriter("https://api.example/v1", "m", "OUR_KEY")
    monkeypatch.setenv("OUR_KEY", "secret-1")
    with pytest.raises(ModelError, match="without encryption") as caught:
        RemoteWriter("http://api.example/v1", "m", "OUR_KEY")
    assert "secret-1" not in str(caught.value)
    RemoteWriter("https://api.example/v1", "m", "OUR_KEY")


def test_a_form_is_asked_for_until_the_server_says_that_it_knows_none(server: Server) -> None:
    server.plan = [(200, REPLY), (400, "response_format is not supported"), (200, REPLY), (200, REPLY)]
    writer = RemoteWriter(server.url, "m", form='{"type": "object"}', pause=0.001)
    for place in range(3):
        (reply,) = writer.replies([str(place)], max_new_tokens=7, temperature=0, seed=0)
        assert (reply.place, reply.text, reply.tokens) == (0, "yes", (12, 3))
    sent = [body.get("response_format", {}).get("json_schema", {}).get("schema") for _, body in server.seen]
    assert sent == [{"type": "object"}, {"type": "object"}, None, None]


def test_a_server_need_not_tell_what_an_answer_cost(server: Server) -> None:
    (reply,) = RemoteWriter(server.url, "m").replies(["a"], max_new_tokens=7, temperature=0, seed=0)
    assert reply.tokens is None


def test_what_is_on_its_way_when_one_fails_still_comes(server: Server) -> None:
    server.plan = [(401, "who are you")]
    found: list[object] = []
    replies = RemoteWriter(server.url, "m").replies("abcdefgh", max_new_tokens=7, temperature=0, seed=0)
    with pytest.raises(ModelError, match="M171"):
        found.extend(replies)
    assert len(found) == len(server.seen) - 1
