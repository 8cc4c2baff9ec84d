"""One writer per run folder. The kernel holds the lock, so it ends with the process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from pathlib import Path
from weakref import WeakSet

from sartor.errors import Problem, RunError
from sartor.store import atomic

NAME = ".lock"
_PATIENCE = 0.3
_BUSY = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class Lock:
    """An exclusive flock on ``.lock`` in `folder`, which exists.

    Raises RunError F101, within a third of a second, when another process holds it, naming that process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / NAME
        with atomic.coded(path, verb="lock"):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._take()
                os.ftruncate(self._handle, 0)
                os.pwrite(self._handle, f"{os.getpid()} {platform.node()}\n".encode(), 0)
            except BaseException:
                os.close(self._handle)
                raise
        _held.add(self)

    def release(self) -> None:
        """Let others in. Releasing twice does no harm."""
        _held.discard(self)
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _take(self) -> None:
        # A reader that looks whether the run is alive holds the lock for microseconds: hence the second try.
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                return fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as fault:
                if fault.errno not in _BUSY:
                    raise
                if time.monotonic() > end:
                    raise self._in_use() from None
                time.sleep(0.02)

    def _in_use(self) -> RunError:
        pid, _, host = os.pread(self._handle, 300, 0).decode(errors="replace").strip().partition(" ")
        where = "" if host in ("", platform.node()) else f" on {host}"
        return RunError(
            Problem(
                "F101",
                f"this run is in use by process {pid or 'unknown'}{where}",
                file=str(self.folder),
                fix="wait for it, or stop it with Ctrl-C in its terminal; a run in another folder: --out DIR",
            )
        )


def held(folder: Path) -> bool:
    """Whether a living process writes in `folder`."""
    path = folder / NAME
    with atomic.coded(path, verb="read"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as fault:
            if fault.errno not in _BUSY:
                raise
            return True
        finally:
            os.close(handle)
        return False


_held: WeakSet[Lock] = WeakSet()


def _after_fork() -> None:
    """A forked worker that outlives a killed run must not keep its lock."""
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_after_fork)
