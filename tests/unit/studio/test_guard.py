"""Who may talk to the page: every route is refused without the token, and whatever a foreign site could send."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sartor.data.annotate.items import to_label
from sartor.data.annotate.workspace import Job, Workspace
from sartor.flow.data_label import FILE, working
from sartor.studio.annotate import application
from sartor.studio.guard import BODY, HEADERS, Guard

PORT, TOKEN = 4711, "right-token"
HOST = f"127.0.0.1:{PORT}"
OURS = {"host": HOST, "origin": f"http://{HOST}", "content-type": "application/json", "x-sartor-token": TOKEN}


@pytest.fixture
def app(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    rows = [{"text": "evil \u202e\x1b[31m <script>alert(1)</script>"}, {"text": "second"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace = Workspace.begin(tmp_path / "out", Job("label", ("a", "b")), to_label(file, label="rows.jsonl"))
    with working(workspace, "ann", range(2), FILE, False) as session:
        yield application(session, "# Guide <b>", TOKEN, stop=lambda: None)


def ask(
    app: Any, method: str, path: str, headers: dict[str, str], body: bytes = b"", query: str = ""
) -> tuple[int, dict[str, str], bytes]:
    sent: list[dict[str, Any]] = []
    chunks = [body[start : start + 65536] for start in range(0, len(body), 65536)] or [b""]
    waiting = [{"type": "http.request", "body": c, "more_body": c is not chunks[-1]} for c in chunks]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Guard(app, PORT, TOKEN)(scope, receive, send))
    given = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], given, b"".join(message.get("body", b"") for message in sent[1:])


def without(name: str, **changes: str) -> dict[str, str]:
    return {key: value for key, value in {**OURS, **changes}.items() if key != name}


def test_every_route_is_refused_without_the_token(app) -> None:
    routes = [(method, route.path) for route in app.routes for method in route.methods]
    assert {path for _, path in routes} == {"/", "/file/{name}", "/job", "/state", "/act", "/end"}
    for method, path in [*routes, ("GET", "/nonesuch"), ("DELETE", "/act")]:
        for headers in (without("x-sartor-token"), {**OURS, "x-sartor-token": "wrong"}, {**OURS, "x-sartor-token": ""}):
            status, given, _ = ask(app, method, path.replace("{name}", "page.js"), headers, b"{}")
            assert status == 401, (method, path)
            assert HEADERS.items() <= given.items()


def test_every_route_answers_with_the_token_and_the_headers(app) -> None:
    for path in ("/", "/file/page.css", "/file/page.js", "/file/icon.svg", "/job", "/state"):
        status, given, body = ask(app, "GET", path, {"host": HOST}, query=f"token={TOKEN}")
        assert status == 200, path
        assert HEADERS.items() <= given.items()
        assert "access-control-allow-origin" not in given
        assert body
    assert ask(app, "GET", "/file/..%2fserver.py", OURS)[0] == 404
    assert ask(app, "GET", "/openapi.json", OURS)[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (without("", host="evil.example"), 403),
        (without("", host=f"evil.example:{PORT}"), 403),
        (without("host"), 403),
        (without("origin"), 403),
        (without("", origin="http://evil.example"), 403),
        (without("", origin="null"), 403),
        (without("", origin=f"http://localhost:{PORT}"), 403),
        ({**OURS, "sec-fetch-site": "cross-site"}, 403),
        ({**OURS, "sec-fetch-site": "same-site"}, 403),
        (without("content-type"), 415),
        (without("", **{"content-type": "text/plain"}), 415),
        (without("", **{"content-type": "application/x-www-form-urlencoded"}), 415),
    ],
)
def test_what_a_foreign_site_could_send_changes_nothing(app, headers: dict[str, str], status: int) -> None:
    before = ask(app, "GET", "/state", OURS)[2]
    row = json.loads(before)["row"]["key"]
    body = json.dumps({"row": row, "action": "label", "label": "a"}).encode()
    assert ask(app, "POST", "/act", headers, body)[0] == status
    assert ask(app, "GET", "/state", OURS)[2] == before
    assert ask(app, "POST", "/act", {**OURS, "sec-fetch-site": "same-origin"}, body)[0] == 200
    assert ask(app, "GET", "/state", OURS)[2] != before


def test_bodies_are_bounded_and_methods_few(app) -> None:
    assert ask(app, "POST", "/act", OURS, b" " * (BODY + 1))[0] == 413
    assert ask(app, "POST", "/act", OURS, b" " * BODY)[0] == 422
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        assert ask(app, method, "/act", OURS)[0] == 405


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"3",
        b'{"row": 3, "action": "skip"}',
        b'{"row": "x"}',
        b'{"row": "x", "action": "fly"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_nonsense_is_refused(app, body: bytes) -> None:
    assert ask(app, "POST", "/act", OURS, body)[0] == 422


def test_an_answer_for_another_row_is_refused_and_the_right_row_told(app) -> None:
    status, _, body = ask(app, "POST", "/act", OURS, b'{"row": "x", "action": "skip"}')
    assert status == 409
    assert json.loads(body)["state"]["row"]["key"]


def test_control_characters_are_visible(app) -> None:
    told = json.loads(ask(app, "GET", "/state", OURS)[2])
    assert told["row"]["turns"][0]["text"] == "evil \\u202e\\u001b[31m <script>alert(1)</script>"
