"""Where ranks find each other before and beside their collectives: a TCP store in the memory of rank 0, or of torchrun.

    here/RANK   {"host", "pid"}        set when the rank has come
    beat/RANK   [count, step, time]    see heart.py
    end/RANK    {"code", "problem"}    set when it goes; problem is null where all is well
    call        what rank 0 wants the others to do; null: nothing
    lost        the problem of a rank that died or hangs, found by rank 0

Only JSON is stored. Every store call of a lost connection raises torch's DistError.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from sartor.engine.parallel.world import TIMEOUT
from sartor.errors import Problem, SartorError

LOOPBACK = "127.0.0.1"
PAUSE = 0.05
"""Seconds between looks at what others have stored."""
ATTEMPT = 5.0
"""Seconds of one attempt to reach the store; in between, signals are heard."""
REPLY = timedelta(seconds=30)
FAULT, INTERRUPTED = 3, 130
"""Exit codes."""


class Meeting:
    """One rank's connection to the store. A connection serves one thread; `again` opens another."""

    def __init__(self, store: TCPStore, rank: int, size: int, attempt: str) -> None:
        self.rank, self.size, self.host, self.port = rank, size, store.host, store.port
        self._server, self._attempt = store, attempt
        self._store = PrefixStore(f"sartor/{attempt}", store)

    @classmethod
    def on_this_machine(cls, size: int) -> Self:
        """Rank 0 of `size` processes of one machine, at a free port that no other machine can reach."""
        listener = socket.socket()
        listener.bind((LOOPBACK, 0))
        listener.listen(size + 8)
        port = listener.getsockname()[1]
        store = TCPStore(
            LOOPBACK,
            port,
            is_master=True,
            wait_for_workers=False,
            multi_tenant=True,
            master_listen_fd=listener.detach(),
            timeout=REPLY,
        )
        return cls(store, 0, size, "0")

    @classmethod
    def reach(cls, environ: Mapping[str, str], *, patience: float = TIMEOUT) -> Self:
        """The store that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT speak of; rank 0 makes it where torchrun has not.

        Raises SartorError P112 when it cannot be reached within `patience` seconds.
        """
        rank, size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
        host, port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
        makes = rank == 0 and environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        until = time.monotonic() + patience
        while True:
            try:
                store = _connect(host, port, makes=makes, patience=min(ATTEMPT, patience))
                return cls(store, rank, size, environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
            except dist.DistError as fault:
                if makes or time.monotonic() > until:
                    raise SartorError(_unreached(rank, size, f"{host}:{port}", patience, fault)) from fault

    def again(self) -> Meeting:
        """Another connection to the same store."""
        return Meeting(_connect(self.host, self.port), self.rank, self.size, self._attempt)

    def tell(self, key: str, value: Any) -> None:
        """Store a JSON value for all ranks to see."""
        self._store.set(key, json.dumps(value, allow_nan=False))

    def mention(self, key: str, value: Any) -> None:
        """`tell`, by a rank that goes: a store that is gone already need not be told."""
        try:
            self.tell(key, value)
        except dist.DistError:
            pass

    def has(self, key: str) -> bool:
        """Whether anyone has stored something under `key`."""
        return bool(self._store.check([key]))

    def told(self, key: str) -> Any:
        """What is stored under `key`; None where nothing is."""
        return json.loads(self._store.get(key)) if self.has(key) else None

    def arrive(self) -> None:
        """Say that this rank has come."""
        self.tell(f"beat/{self.rank}", [0, 0, time.time()])
        self.tell(f"here/{self.rank}", {"host": platform.node(), "pid": os.getpid()})

    def leave(self, code: int, reason: str | None) -> None:
        """Say that this rank goes, with what exit code and why."""
        self.mention(f"end/{self.rank}", {"code": code, "problem": reason})

    @contextmanager
    def stay(self) -> Iterator[None]:
        """While entered this rank is there; then it says that it goes, and with what exit code."""
        code, reason = FAULT, None
        try:
            yield
            code = 0
        except SartorError as error:
            code, reason = error.exit_code, str(error.problems[0])
            raise
        except KeyboardInterrupt:
            code = INTERRUPTED
            raise
        finally:
            self.leave(code, reason)

    def environ(self, rank: int) -> dict[str, str]:
        """The variables that torchrun would set for a rank of a meeting on this machine."""
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_WORLD_SIZE": str(self.size),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(self.port),
        }

    def missing(self, kind: str, ranks: Iterable[int]) -> list[int]:
        """Those of `ranks` that have not stored ``kind/RANK``."""
        return [rank for rank in ranks if not self.has(f"{kind}/{rank}")]

    def gather(self, *, patience: float, check: Callable[[], None]) -> None:
        """Return when every rank has come. Calls `check` in between, which may raise.

        Raises SartorError P112, naming the ranks that did not come within `patience` seconds.
        """
        until = time.monotonic() + patience
        missing = self.missing("here", range(self.size))
        while missing:
            check()
            if time.monotonic() > until:
                names = ", ".join(map(str, missing))
                what = f"of {self.size} ranks, {names} did not come within {patience:g} s"
                raise SartorError(
                    Problem("P112", what, fix="see why they did not start; every machine must run the same command")
                )
            time.sleep(PAUSE)
            missing = self.missing("here", missing)

    def disperse(self, *, patience: float) -> None:
        """Return when every rank that came has gone, or the store, at the latest after `patience` seconds."""
        until = time.monotonic() + patience
        try:
            staying = [rank for rank in range(1, self.size) if self.has(f"here/{rank}")]
            while staying and time.monotonic() < until:
                staying = self.missing("end", staying)
                time.sleep(PAUSE)
        except dist.DistError:
            return


def _connect(host: str, port: int, *, makes: bool = False, patience: float = ATTEMPT) -> TCPStore:
    wait = REPLY if makes else timedelta(seconds=patience)
    store = TCPStore(host, port, is_master=makes, wait_for_workers=False, multi_tenant=makes, timeout=wait)
    store.set_timeout(REPLY)
    return store


def _unreached(rank: int, size: int, where: str, patience: float, fault: Exception) -> Problem:
    reason = str(fault).splitlines()[0]
    what = f"rank {rank} of {size} could not reach the meeting point {where} within {patience:g} s: {reason}"
    return Problem(
        "P112", what, fix="see whether rank 0 runs, and whether its address and port are open to this machine"
    )
