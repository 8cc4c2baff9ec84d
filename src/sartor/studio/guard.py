"""Who may talk to the page: only a browser on this machine that was given the token. What is not allowed is refused.

The page is bound to 127.0.0.1, yet any web site that the user visits can send requests there. Against that: the Host header must be
ours (DNS rebinding), every request must hold a random token (other users, other sites), a request that changes something
must come from our own page (Origin, Sec-Fetch-Site) and be JSON (which a foreign form cannot send), and bodies are bounded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY = 1 << 20
"""Bytes of a request at most."""
HEADER = "x-sartor-token"
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI application around another one.

    Args:
        app: what is guarded.
        port: the port it is bound to, part of its Host and Origin.
        token: what every request must hold, as `?token=` or in the header `X-Sartor-Token`.
    """

    def __init__(self, app: App, port: int, token: str) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it with what is wrong."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        guarded = _with_headers(send)
        if scope["type"] != "http":
            await _refuse(guarded, 403, "only http")
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(guarded, *refusal)
            return
        body = await _body(receive)
        if body is None:
            await _refuse(guarded, 413, "the request is too large")
            return
        await self._app(scope, _once(body), guarded)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason, or None where the request is allowed."""
        host = headers.get("host", "")
        if host not in self._hosts:
            return 403, "unknown host"
        if not compare_digest(self._token, _token(scope, headers)):
            return 401, "the token is missing or wrong: use the address that the command printed"
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return 405, "this method is not allowed"
        if headers.get("origin") != f"http://{host}":
            return 403, "the request does not come from this page"
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return 403, "the request does not come from this page"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "JSON needed"
        return None


def _token(scope: Scope, headers: dict[str, str]) -> bytes:
    """What the request gives as the token."""
    if HEADER in headers:
        return headers[HEADER].encode()
    query: bytes = scope.get("query_string", b"")
    return parse_qs(query.decode("latin-1")).get("token", [""])[0].encode()


async def _body(receive: Receive) -> bytes | None:
    """All of the request's body; None as soon as it is too large."""
    held = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        held += part
        if len(held) > BODY:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return held


def _once(body: bytes) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    return receive


def _with_headers(send: Send) -> Send:
    extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *extra]
        await send(message)

    return guarded


async def _refuse(send: Send, status: int, why: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why.encode()})
