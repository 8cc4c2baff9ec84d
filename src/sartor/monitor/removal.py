"""Takes the requests of a user out of a log, with what was said of them: segments are replaced whole, one after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sartor.monitor import segments
from sartor.monitor.log import RequestLog
from sartor.monitor.redaction import user_hash


@dataclass(frozen=True, slots=True)
class Removed:
    """What is gone."""

    answers: int
    feedback: int
    segments: int
    """Files that were replaced."""
    first: float | None
    """Time of the oldest answer that is gone; None where there was none."""
    last: float | None


def forget(folder: Path, user: str) -> Removed:
    """Remove everything of a user, shadows included; the log keeps how much it was, and nothing of who.

    A server may write on meanwhile. A kill half-way leaves whole segments; the same call again removes the rest. Raises InputError V131
    and RunError V130.
    """
    hashed = user_hash(user, _secret(folder))
    answers, feedback, replaced, times = 0, 0, 0, list[float]()
    with segments.exclusive(folder):
        paths = segments.segments(folder)
        if paths:
            segments.mend(paths[-1])
        gone = {line.body["id"] for path in paths for line in segments.lines(path) if _whose(line.body) == hashed}
        for path in reversed(
            paths
        ):  # what was said of an answer goes before it, so that a second call still finds both
            kept: list[dict[str, Any]] = []
            before = answers + feedback
            for line in segments.lines(path):
                body = line.body
                if _whose(body) == hashed:
                    answers += 1
                    times.append(body["time"])
                elif body["kind"] == "feedback" and body["of"] in gone:
                    feedback += 1
                elif body["kind"] != "segment":
                    kept.append(body)
            if answers + feedback > before:
                segments.rewrite(path, kept)
                replaced += 1
    removed = Removed(answers, feedback, replaced, min(times, default=None), max(times, default=None))
    log = RequestLog(folder, sync=0)
    try:
        log.append({"kind": "removed", "why": "user", "time": time.time(), "answers": answers, "feedback": feedback})
        log.index.forget_removed()
    finally:
        log.close()
    return removed


def _secret(folder: Path) -> bytes:
    existing = segments.existing(folder)
    with segments.exclusive(existing):
        return segments.secret(existing)


def _whose(body: dict[str, Any]) -> str | None:
    return body.get("user") if body["kind"] == "answer" else None
