"""The files of a request log: JSONL segments by day and size, only ever appended to, or replaced whole.

    LOG/2026-11-22-000001.jsonl   first line {"kind": "segment", "uid": ...}: a segment that was rewritten has another uid
    LOG/secret                    key of the hashes of users, readable by its owner alone
    LOG/index.sqlite              can be removed at any time

Whoever writes holds the kernel's lock on `.lock` for that moment, so that several processes may share a folder, and a segment is
rewritten while a server writes. A last line without its newline was torn by a kill: readers leave it out, the next writer cuts it off.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sartor.errors import InputError, Problem, RunError
from sartor.store import atomic

LOCK, SECRET = ".lock", "secret"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a segment, and where it lies."""

    body: dict[str, Any]
    at: int
    """Bytes from the beginning of the file."""
    end: int


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Be the only writer of a log for a moment."""
    with atomic.coded(folder, verb="lock"):
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def segments(folder: Path) -> list[Path]:
    """All segments, oldest first."""
    return sorted(folder.glob("????-??-??-??????.jsonl"))


def existing(folder: Path) -> Path:
    """The folder, which must hold a log. Raises InputError V131."""
    if not (folder / SECRET).is_file():
        what = "here is no request log"
        raise InputError(
            Problem("V131", what, file=str(folder), fix="name the folder that sartor serve --log was given")
        )
    return folder


def secret(folder: Path) -> bytes:
    """The key of the folder's hashes, made where there is none. The folder exists, and is locked by the caller."""
    path = folder / SECRET
    with atomic.coded(path):
        if not path.exists():
            temporary = path.with_name(f".tmp-{path.name}")
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            atomic.sync_folder(folder)
        return bytes.fromhex(path.read_text())


def day(now: float) -> str:
    """The day of a time, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def following(folder: Path, today: str) -> Path:
    """A new segment's place."""
    numbers = [int(path.stem[-6:]) for path in segments(folder)]
    return folder / f"{today}-{max(numbers, default=0) + 1:06d}.jsonl"


def header() -> bytes:
    """The first line of a segment."""
    return encoded({"kind": "segment", "uid": secrets.token_hex(8)})


def encoded(body: Mapping[str, Any]) -> bytes:
    """One line."""
    return (json.dumps(body, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="backslashreplace")


def uid(path: Path) -> str:
    """Which writing of a segment this is; empty where even its first line is torn."""
    first = next(lines(path), None)
    return "" if first is None else str(first.body.get("uid", ""))


def lines(path: Path, start: int = 0) -> Iterator[Line]:
    """The lines from `start`, without a torn last one. Raises RunError V130 for any other that is damaged."""
    with atomic.coded(path, verb="read"), open(path, "rb") as file:
        file.seek(start)
        at = start
        for content in file:
            if not content.endswith(b"\n"):
                return
            yield Line(_parse(content, path, at), at, at + len(content))
            at += len(content)


def line_at(path: Path, at: int) -> dict[str, Any]:
    """One line, by where it begins."""
    return next(lines(path, at)).body


def rewrite(path: Path, kept: Iterable[Mapping[str, Any]]) -> None:
    """Replace a segment at once by one with these lines alone. For whoever holds the lock."""
    atomic.write_bytes(path, b"".join([header(), *map(encoded, kept)]))


def mend(path: Path) -> None:
    """Cut off a torn last line. For whoever holds the lock."""
    with atomic.coded(path), open(path, "rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())


def _parse(content: bytes, path: Path, at: int) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("kind"), str):
        return body
    with open(path, "rb") as file:
        number = file.read(at).count(b"\n") + 1
    excerpt = content[:60].decode(errors="backslashreplace")
    fix = "restore the file from a copy, or remove the line"
    raise RunError(
        Problem(
            "V130", "this line of the request log is damaged", file=str(path), line=number, excerpt=excerpt, fix=fix
        )
    )
