"""Tells somebody of an alarm: a line in a file, a POST to an address, or a command that reads it.

    --alert file:alarms.jsonl  --alert webhook:https://host/hook  --alert command:"notify --urgent"

A webhook goes to the address the user gave and nowhere else: a redirect is a failure, proxies of the environment are not asked.
A command is started without a shell and reads the alarm as JSON. Every alarm has an id, so what is told twice after a crash is known
by it; a file never holds one twice.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from sartor.errors import InputError, Problem
from sartor.store import atomic

KINDS = ("file", "webhook", "command")
TRIES = 3
PATIENCE = 10.0
"""Seconds for one POST."""
LONGEST = 60.0
"""Seconds for a command."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One way to tell."""

    kind: Literal["file", "webhook", "command"]
    target: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"

    def tell(self, alarm: dict[str, Any], wait: Callable[[float], object] = time.sleep) -> str | None:
        """Why it could not be told, if so. A webhook is tried three times; a file that refuses raises SartorError F130 or F131."""
        if self.kind == "file":
            _append(Path(self.target).expanduser(), alarm)
            return None
        if self.kind == "command":
            return _run(self.target, alarm)
        reason: str | None = None
        for attempt in range(TRIES):
            if attempt:
                wait(2.0**attempt)
            reason = _post(self.target, alarm)
            if reason is None:
                return None
        return reason


def parse(text: str) -> Alert:
    """`file:PATH`, `webhook:URL` or `command:CMD`. Raises InputError V162."""
    kind, _, target = text.partition(":")
    fix = "file:PATH, webhook:https://HOST/PATH or command:PROGRAM ARGUMENTS"
    if kind == "file" and target:
        return Alert("file", target)
    if kind == "webhook" and _address(target):
        return Alert("webhook", target)
    if kind == "command" and _words(target):
        return Alert("command", target)
    raise InputError(Problem("V162", f'"{text}" is no place for an alert', fix=fix))


def _address(target: str) -> bool:
    try:
        parts = urlsplit(target)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        return False


def _words(target: str) -> list[str]:
    try:
        return shlex.split(target)
    except ValueError:
        return []


def _append(path: Path, alarm: dict[str, Any]) -> None:
    line = json.dumps(alarm, ensure_ascii=False) + "\n"
    with atomic.coded(path), open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        text = file.read()
        if any(_id(each) == alarm["id"] for each in text.splitlines()):
            return
        file.write(line if not text or text.endswith("\n") else f"\n{line}")


def _id(line: str) -> str | None:
    try:
        body = json.loads(line)
    except ValueError:
        return None
    return body.get("id") if isinstance(body, dict) else None


def _run(target: str, alarm: dict[str, Any]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - the user's own command, without a shell
            _words(target), input=json.dumps(alarm, ensure_ascii=False).encode(), capture_output=True, timeout=LONGEST, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it had not ended after {LONGEST:g} s"
    except OSError as fault:
        return fault.strerror or str(fault)
    return (
        None
        if done.returncode == 0
        else f"it ended with {done.returncode}: {done.stderr[-200:].decode(errors='replace')}"
    )


def _post(target: str, alarm: dict[str, Any]) -> str | None:
    parts = urlsplit(target)
    assert parts.hostname is not None
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(alarm["id"])}
    try:
        connection.request(
            "POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            json.dumps(alarm, ensure_ascii=False).encode(), headers,
        )  # fmt: skip
        status = connection.getresponse().status
    except (OSError, HTTPException) as fault:
        return str(fault) or type(fault).__name__
    finally:
        connection.close()
    return None if 200 <= status < 300 else f"it answered {status}"
