"""events.jsonl: one JSON object per line, only ever appended to. A last line torn by a kill is tolerated and mended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sartor.errors import Problem, RunError
from sartor.events import Event, line
from sartor.store import atomic

_SYNC_EVERY = 50
_FREQUENT = frozenset({"step", "progress"})
_STEPWISE = frozenset({"step", "validation", "saved", "note"})


class Log:
    """Appends to the log at `path`. Each line reaches the kernel at once.

    Lines reach the disk at once as well, but for steps and progress, which do with the next other line or every fifty.
    So after a power cut the log holds every step up to the last validation, and with it every checkpoint that followed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._unsynced = path, 0
        with atomic.coded(path):
            new = not path.exists()
            self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._mend()
            if new:
                atomic.sync_folder(path.parent)

    def append(self, event: Event) -> None:
        """Write one event with the time of now. Raises SartorError F130 or F131; no part of the line is left then."""
        content = (line(event, time.time()) + "\n").encode()
        size = os.fstat(self._handle).st_size
        with atomic.coded(self.path, needs=len(content)):
            try:
                self._write(content)
            except OSError:
                os.ftruncate(self._handle, size)
                raise
        self._unsynced += 1
        if event.kind not in _FREQUENT or self._unsynced >= _SYNC_EVERY:
            self.sync()

    def sync(self) -> None:
        """Make every line so far survive a power cut."""
        with atomic.coded(self.path):
            os.fsync(self._handle)
        self._unsynced = 0

    def close(self) -> None:
        """Sync and close."""
        if self._handle >= 0:
            try:
                self.sync()
            finally:
                os.close(self._handle)
                self._handle = -1

    def _write(self, content: bytes) -> None:
        while content:
            content = content[os.write(self._handle, content) :]

    def _mend(self) -> None:
        """End a whole last line that lacks its newline, cut off a torn one."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        tail = content[whole:]
        if not tail:
            return
        if _parse(tail) is None:
            os.ftruncate(self._handle, whole)
        else:
            self._write(b"\n")
        os.fsync(self._handle)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log. A torn last line is left out; raises RunError F106 for any other line that is not JSON."""
    with atomic.coded(path, verb="read"), open(path, "rb") as file:
        for number, content in enumerate(file, start=1):
            event = _parse(content)
            if event is not None:
                yield event
            elif content.endswith(b"\n"):
                raise RunError(
                    Problem(
                        "F106",
                        "this line of the log is damaged",
                        file=str(path),
                        line=number,
                        excerpt=content[:60].decode(errors="backslashreplace"),
                        fix="restore the file from a copy, or remove the line",
                    )
                )


def unbroken(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events as if the run had never been interrupted: steps that a resumed run took again appear once.

    A `started` event at step s takes back what came after step s since the last `finished` training.
    """
    done: list[dict[str, Any]] = []
    current: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "started":
            current = [past for past in current if not _after(past, event["step"])]
        current.append(event)
        if event["event"] == "finished":
            done, current = done + current, []
    return done + current


def _after(event: dict[str, Any], step: int) -> bool:
    return event["event"] in _STEPWISE and (event.get("step") or 0) > step


def _parse(content: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(content)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
