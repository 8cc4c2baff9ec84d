"""Who may ask, and how much: stands before every route and refuses what is not allowed, in the form that OpenAI's clients read.

Bound to this machine alone the server could still be reached by any web site its user visits. So the Host header must be one of ours
(DNS rebinding), a request from a browser must come from an allowed origin, everything but the health pages needs the token, a body
must be JSON of bounded size that arrives in bounded time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from hmac import compare_digest
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/health", "/ready"})
"""Routes without a token: they tell nothing but whether the server lives."""
BODY_SECONDS = 20.0
"""In which the whole body must have come."""
HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class Gate:
    """An ASGI application around another one.

    Args:
        app: what is guarded.
        hosts: values of the Host header that are ours.
        token: what `Authorization: Bearer` must hold; None: nothing.
        origins: web pages that may ask.
        body: bytes of a request, at most.
    """

    def __init__(self, app: App, *, hosts: Iterable[str], token: str | None, origins: Iterable[str], body: int) -> None:
        self._app, self._hosts, self._origins, self._limit = app, frozenset(hosts), frozenset(origins), body
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it with what is wrong."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        guarded = _with_headers(send)
        if scope["type"] != "http":
            await refuse(guarded, 403, "only http")
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refuse(guarded, *refusal)
            return
        if scope["method"] != "POST":
            await self._app(scope, receive, guarded)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._body(receive)
        except ConnectionResetError:
            return
        except TimeoutError:
            await refuse(guarded, 408, f"the body did not come within {BODY_SECONDS:g} seconds")
            return
        if body is None:
            await refuse(guarded, 413, f"a request has {self._limit:,} bytes at most")
            return
        await self._app(scope, _first(body, receive), guarded)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason, or None where the request is allowed."""
        if headers.get("host", "").lower() not in self._hosts:
            return 403, "unknown host; --allow-host NAME lets another name in"
        if "origin" in headers and headers["origin"] not in self._origins:
            return 403, "web pages may not ask here; --allow-origin ORIGIN lets one in"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and "origin" not in headers:
            return 403, "web pages may not ask here"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "only GET and POST"
        if scope["path"] not in OPEN and self._token is not None and not self._known(headers):
            return (
                401,
                "the token is missing or wrong: Authorization: Bearer TOKEN, with the one that was printed at the start",
            )
        if scope["method"] == "POST":
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return 415, "the body must be application/json"
            length = headers.get("content-length", "0")
            if not length.isascii() or not length.isdigit():
                return 400, "content-length is no number"
            if int(length) > self._limit:
                return 413, f"a request has {self._limit:,} bytes at most"
        return None

    def _known(self, headers: dict[str, str]) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and compare_digest(self._token or b"", token.strip().encode("utf-8", "replace"))

    async def _body(self, receive: Receive) -> bytes | None:
        """All of the request's body; None as soon as it is too large. Raises ConnectionResetError where the client goes before its end."""
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._limit:
                return None
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)


async def refuse(send: Send, status: int, why: str) -> None:
    """Answer with an error as OpenAI's API forms it."""
    headers = [(b"content-type", b"application/json")]
    body = json.dumps(problem(status, why)).encode()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem(status: int, why: str, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's API forms it."""
    return {"error": {"message": why, "type": kind(status), "param": param, "code": None}}


def kind(status: int) -> str:
    """What OpenAI calls errors of a status."""
    named = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    return named.get(status, "invalid_request_error" if status < 500 else "server_error")


def _first(body: bytes, receive: Receive) -> Receive:
    """The body once, and then what comes after it: that the client has gone."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()

    return received


def _with_headers(send: Send) -> Send:
    extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *extra]
        await send(message)

    return guarded
