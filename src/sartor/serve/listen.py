"""Connections with deadlines, and a server that drains when it is told to stop. The only file of the server that knows uvicorn.

uvicorn waits for ever for the head of a request, for a body that was refused already, and for a client that does not read its answer;
`Line` does not. It ends with the signal that stopped it and cuts streams with tracebacks; `Server` finishes answers, then says that the
others are cut off, and exits with 0.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from socket import socket
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sartor.serve.gate import HEADERS, App, problem

CONNECTIONS = 1000
"""At the same time; beyond them the one that has been silent for longest is closed."""
HEAD_BYTES = 1 << 16
"""Of the head of a request, at most."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that the server waits for its clients."""

    head: float = 10.0
    """For the head of a request, and for the rest of a body that has been refused."""
    idle: int = 20
    """Between two requests."""
    read: float = 30.0
    """For a client to read on."""


@dataclass(frozen=True, slots=True)
class Ends:
    """How the server stops."""

    close: Callable[[], None]
    """Let nothing more in."""
    cut: Callable[[], None]
    """End the answers on their way."""
    seconds: float
    """From the signal to the end, at most."""


class Line(H11Protocol):
    """One connection. A request must come in bounded time, and its answer be read."""

    def __init__(self, patience: Patience, **given: Any) -> None:
        super().__init__(**given)
        self._patience = patience
        self._silent: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    @property
    def silent_until(self) -> float | None:
        """Time of the loop when it is closed for its silence; None while it is not silent."""
        timer = self._silent or self.timeout_keep_alive_task
        return None if timer is None else timer.when()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        for timer in (self._silent, self._unread):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def shutdown(self) -> None:
        """Close what is silent, and what has not sent its whole request yet."""
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self._patience.read, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, where an answer can still be sent, and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._refuse(400, "this is no HTTP request, or its head is too large")

    def _watch(self) -> None:
        """Set the clock while a request, or the rest of one that has been answered, is awaited; an answer on its way stops it."""
        ours, theirs = self.conn.our_state, self.conn.their_state
        awaited = (ours is h11.IDLE and self.timeout_keep_alive_task is None) or (
            ours is h11.DONE and theirs is h11.SEND_BODY
        )
        if not awaited or self.transport.is_closing():
            if self._silent is not None:
                self._silent.cancel()
                self._silent = None
        elif self._silent is None:
            self._silent = self.loop.call_later(self._patience.head, self._give_up)

    def _give_up(self) -> None:
        self._silent = None
        if self.conn.trailing_data[0]:
            self._refuse(408, f"the request did not come within {self._patience.head:g} seconds")
        else:
            self.transport.close()

    def _refuse(self, status: int, why: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(problem(status, why)).encode()
            facts = {**HEADERS, "content-type": "application/json", "connection": "close"}
            headers = [(name.encode(), value.encode()) for name, value in facts.items()]
            headers.append((b"content-length", str(len(body)).encode()))
            answer = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode())
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _make_room(self) -> None:
        silent = [line for line in self.connections if isinstance(line, Line) and line.silent_until is not None]
        min(silent, key=lambda line: line.silent_until or 0.0).transport.abort()


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, then finishes what it began; a second signal stops it at once."""

    def __init__(self, config: uvicorn.Config, ends: Ends) -> None:
        super().__init__(config)
        self._ends = ends

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Take no more requests and wait for those on their way, but not for longer than it may."""
        self._ends.close()
        loop = asyncio.get_running_loop()
        clocks = [
            loop.call_later(0.8 * self._ends.seconds, self._ends.cut),
            loop.call_later(0.9 * self._ends.seconds, self._stop_waiting),
        ]
        await super().shutdown(sockets)
        for clock in clocks:
            clock.cancel()
        self._ends.cut()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=0.05 * self._ends.seconds)

    def _stop_waiting(self) -> None:
        self.force_exit = True


def server(gate: App, ends: Ends, *, patience: Patience | None = None, log_level: str = "warning") -> Server:
    """A server of the application behind this gate; `run(sockets=[...])` serves."""
    patience = patience or Patience()
    config = uvicorn.Config(
        gate, http=partial(Line, patience), ws="none", lifespan="off", log_level=log_level, access_log=False, server_header=False,  # type: ignore[arg-type]
        timeout_keep_alive=patience.idle, limit_concurrency=CONNECTIONS + 10, h11_max_incomplete_event_size=HEAD_BYTES,
    )  # fmt: skip
    return Server(config, ends)
