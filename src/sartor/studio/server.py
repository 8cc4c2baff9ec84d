"""Runs a page on this machine until the user ends it."""

from __future__ import annotations

import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from sartor.errors import DataError, Problem
from sartor.studio.annotate import application
from sartor.studio.guard import App, Guard

if TYPE_CHECKING:
    from sartor.data.annotate.session import Session

HOST = "127.0.0.1"


def serve(session: Session, guidelines: str, *, port: int, browse: bool) -> None:
    """Serve the page for a session. As `host`."""
    host(lambda token, stop: application(session, guidelines, token, stop), port=port, browse=browse)


def host(made: Callable[[str, Callable[[], None]], App], *, port: int, browse: bool) -> None:
    """Serve a page, print its address on stderr, and return when it is ended there or by Ctrl-C.

    `made` is given the token and what ends the server. With port 0 a free one is taken. Raises DataError A116 where the port
    is taken.
    """
    with _bound(port) as listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        app = made(token, lambda: _stop(server))
        config = uvicorn.Config(Guard(app, port, token), log_level="warning", access_log=False, server_header=False)
        server = uvicorn.Server(config)
        address = f"http://{HOST}:{port}/?token={token}"
        sys.stderr.write(f" {address}\n answers are saved one by one; end with q on the page, or Ctrl-C here\n")
        sys.stderr.flush()
        if browse and not webbrowser.open(address):
            sys.stderr.write(" no browser could be opened: open the address yourself\n")
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            sys.stderr.write("\n")


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as fault:
        listener.close()
        what = f"port {port} cannot be used: {fault.strerror}"
        raise DataError(Problem("A116", what, fix="leave --port out, and a free one is taken")) from fault
    return listener
