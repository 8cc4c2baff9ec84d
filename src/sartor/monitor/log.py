"""Writes the request log: a line is with the kernel before `append` returns, so a kill of the process takes nothing that was acknowledged.

With `sync` 0 it is on the disk as well, and survives a power cut; writers that come together share one fsync. With `sync` s the disk
follows at most s seconds later.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sartor.errors import SartorError
from sartor.monitor import segments
from sartor.monitor.index import Index
from sartor.store import atomic

SEGMENT = 64 << 20
"""Bytes after which a segment is followed by the next one."""
DAY = 86_400.0


class RequestLog:
    """The writer of one folder; any thread may append.

    Args:
        folder: made where it is missing.
        sync: seconds after which lines are on the disk at the latest; 0: before `append` returns.
        days: segments of earlier days are removed; None: none.
        size: bytes of a segment.
        now: the clock.

    Raises RunError V130 for a damaged log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sync: float = 1.0,
        days: int | None = None,
        size: int = SEGMENT,
        now: Callable[[], float] = time.time,
    ) -> None:
        atomic.make_folder(folder)
        self.folder, self._sync, self._days, self._size, self._now = folder, sync, days, size, now
        self._lock, self._syncing = threading.Lock(), threading.Lock()
        self._path: Path | None = None
        self._handle, self._written, self._safe = -1, 0, 0
        with segments.exclusive(folder):
            os.chmod(folder, 0o700)
            self.secret = segments.secret(folder)
            for path in segments.segments(folder)[-1:]:
                segments.mend(path)
        self.index = Index(folder)
        self._expired = ""
        self.expire()
        self.index.catch_up()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log", daemon=True) if sync else None
        if self._thread is not None:
            self._thread.start()

    def append(self, body: Mapping[str, Any]) -> None:
        """Write one line and index it. Raises SartorError F130 or F131; no part of the line is left then."""
        content = segments.encoded(body)
        with self._lock:
            with segments.exclusive(self.folder):
                self._ready()
                self._write(content)
            self._written += 1
            mine = self._written
        if not self._sync:
            self._on_disk(mine)
        self.expire()
        self.index.catch_up()

    def expire(self) -> int:
        """Remove the segments that are too old; how many. Looks once a day."""
        today = segments.day(self._now())
        if self._days is None or self._expired == today:
            return 0
        self._expired = today
        first = segments.day(self._now() - self._days * DAY)
        with segments.exclusive(self.folder):
            old = [path for path in segments.segments(self.folder) if path.name[:10] < first]
            for path in old:
                atomic.forget(path)
        return len(old)

    def close(self) -> None:
        """Everything is on the disk; nothing more is written."""
        if self._thread is not None:
            self._over.set()
            self._thread.join()
        with self._lock:
            self._leave()
        self.index.close()

    def _follow(self) -> None:
        while not self._over.wait(self._sync):
            # A disk that refuses here refuses the next append as well, which says so.
            with suppress(SartorError):
                self._on_disk(self._written)

    def _on_disk(self, mine: int) -> None:
        with self._syncing:
            if self._safe >= mine:
                return
            with self._lock:
                upto, handle, path = self._written, os.dup(self._handle) if self._handle >= 0 else -1, self._path
            if handle >= 0 and path is not None:
                try:
                    with atomic.coded(path):
                        os.fsync(handle)
                finally:
                    os.close(handle)
            self._safe = upto

    def _ready(self) -> None:
        """The segment that takes the next line is open; another one where the day is over, it is full, or it was rewritten."""
        today = segments.day(self._now())
        if self._path is not None and not self._still(self._path):
            self._leave()
        if self._handle < 0:
            last = next(reversed(segments.segments(self.folder)), None)
            if last is not None and last.name.startswith(today) and last.stat().st_size < self._size:
                segments.mend(last)
                self._open(last)
        if self._path is not None and (
            not self._path.name.startswith(today) or os.fstat(self._handle).st_size >= self._size
        ):
            self._leave()
        if self._handle < 0:
            self._open(segments.following(self.folder, today))
        if not os.fstat(self._handle).st_size:
            self._write(segments.header())
            atomic.sync_folder(self.folder)

    def _still(self, path: Path) -> bool:
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._handle))
        except FileNotFoundError:
            return False

    def _open(self, path: Path) -> None:
        with atomic.coded(path):
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._path = path

    def _leave(self) -> None:
        if self._handle >= 0 and self._path is not None:
            try:
                with atomic.coded(self._path):
                    os.fsync(self._handle)
            finally:
                os.close(self._handle)
                self._handle, self._path = -1, None

    def _write(self, content: bytes) -> None:
        assert self._path is not None
        size = os.fstat(self._handle).st_size
        with atomic.coded(self._path, needs=len(content)):
            try:
                while content:
                    content = content[os.write(self._handle, content) :]
            except OSError:
                os.ftruncate(self._handle, size)
                raise
