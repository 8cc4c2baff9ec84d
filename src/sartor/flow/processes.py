"""The further processes of a run on one machine: started, watched and ended by the first one.

Each is `python -m sartor run RECIPE` with the variables that torchrun sets as well, so there is one way to be a rank. What it
is to do it reads at the meeting point. The kernel ends it with its parent (`tie`), whatever state it is in.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from sartor.engine.parallel.meeting import Meeting

PARENT = "SARTOR_PARENT"
_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
PATIENCE = 5.0
"""Seconds that a rank has to end by itself once training is over."""


def tie(environ: Mapping[str, str]) -> None:
    """End with the process that started this one, if it was started as a rank. Call it first."""
    if PARENT not in environ:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(environ[PARENT]):
        os._exit(3)


class Processes:
    """Ranks 1 to size - 1 of a meeting on this machine; their words go to `folder`/rank-N.log."""

    def __init__(self, meeting: Meeting, recipe: Path, folder: Path, *, threads: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ranks: dict[int, subprocess.Popen[bytes]] = {}
        for rank in range(1, meeting.size):
            environ = {
                **os.environ,
                **meeting.environ(rank),
                "OMP_NUM_THREADS": str(threads),
                "TORCH_CPP_LOG_LEVEL": "ERROR",
                PARENT: str(os.getpid()),
            }
            with open(self.log(rank), "wb") as log:
                self._ranks[rank] = subprocess.Popen(  # noqa: S603  a list; the path of the recipe is no option of any program
                    [sys.executable, "-m", "sartor", "run", "--", str(recipe)],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def log(self, rank: int) -> Path:
        """Where a rank's words are kept."""
        return self._folder / f"rank-{rank}.log"

    def words(self, rank: int) -> str | None:
        """The log of a rank that has something to say."""
        log = self.log(rank)
        return str(log) if log.exists() and log.stat().st_size else None

    def fate(self, rank: int) -> str | None:
        """How a rank ended badly; None while it lives, or when it ended well."""
        code = self._ranks[rank].poll() if rank in self._ranks else None
        if not code:
            return None
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def release(self, rank: int) -> None:
        """End a rank that was lost, so that nobody goes on waiting for it."""
        if rank in self._ranks:
            self._ranks[rank].kill()

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until all have ended, at most `patience` seconds, then end them. Empty logs are removed."""
        until = time.monotonic() + patience
        for rank, process in self._ranks.items():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if self.words(rank) is None:
                self.log(rank).unlink()
