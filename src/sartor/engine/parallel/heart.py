"""Heartbeats: a rank that dies or hangs is named, with its last step, on every other rank within a bounded time.

Each rank stores (count, step, time) twice a second or less often. Rank 0 listens to all others, they listen to rank 0 and to what
it has found, so the traffic grows with the number of ranks and not with its square. A rank is lost when its count stands
still for `limit` seconds of the listener's own beats: a whole group that was stopped and goes on, as by Ctrl-Z, is not lost.

A collective that waits for a lost rank cannot be called back. Where the main thread has not asked for the verdict `GRACE`
seconds after a loss, the process prints it and ends with exit code 3. Checkpoints are whole or not there, so nothing is lost.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch.distributed as dist

from sartor.engine.parallel.meeting import Meeting
from sartor.errors import InputError, Problem, SartorError

VARIABLE = "SARTOR_RANK_TIMEOUT"
LIMIT = 120.0
"""Seconds without a beat after which a rank counts as lost."""
GRACE = 5.0
FAULT = 3
"""Exit code of a rank that ends because another one is lost."""
GONE_WELL = (0, 1, 130)
"""Exit codes of a rank that went because the work was done, or because the user asked."""
RESUME = "the last checkpoint is good; the same command resumes from it"


def limit(environ: Mapping[str, str]) -> float:
    """Seconds of patience, from the environment. Raises InputError P115 where that is not a number of at least 1."""
    text = environ.get(VARIABLE, str(LIMIT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= 1e6:
        raise InputError(
            Problem("P115", f"{VARIABLE}={text!r} is not a number of seconds from 1", fix=f"{VARIABLE}=120")
        )
    return seconds


@dataclass
class _Pulse:
    count: int = -1
    step: int = 0
    still: int = 0
    """Beats of the listener since the count last moved."""


class Heart:
    """This rank's beats, and from `listen` on what it hears of the others. A context manager.

    Args:
        limit: seconds without a beat after which a rank is lost.
        fate: what is known otherwise of a rank that has ended ("was killed by SIGKILL"), None while it lives.
        release: called with the number of a lost rank, to end it where this process can.
        log: where a rank's own words are kept, for the message.
    """

    def __init__(
        self,
        meeting: Meeting,
        limit: float,
        *,
        fate: Callable[[int], str | None] = lambda rank: None,
        release: Callable[[int], None] = lambda rank: None,
        log: Callable[[int], str | None] = lambda rank: None,
    ) -> None:
        self.limit, self.tick = limit, max(0.05, min(0.5, limit / 10))
        self.rank, self.size = meeting.rank, meeting.size
        self._meeting, self._fate, self._release, self._log = meeting.again(), fate, release, log
        self._pulses = {rank: _Pulse() for rank in ([0] if self.rank else range(1, self.size))}
        self._count = self._step = 0
        self._over, self._lost, self._heard = threading.Event(), threading.Event(), threading.Event()
        self._listens = threading.Event()
        self._problem: Problem | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for work in (self._beats, self._watches):
            threading.Thread(target=work, name=f"sartor-heart-{work.__name__}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop beating and listening. Rank 0, which keeps the store, first lets the others hear who was lost."""
        if self.rank == 0 and self._lost.is_set():
            time.sleep(3 * self.tick)
        self._over.set()

    def listen(self) -> None:
        """From now on the loss of another rank ends this one."""
        self._listens.set()

    def at(self, step: int) -> None:
        """This rank has taken `step`."""
        self._step = step

    def check(self) -> None:
        """Raise SartorError P110 if a rank was lost."""
        problem = self.verdict(0.0)
        if problem is not None:
            raise SartorError(problem)

    def verdict(self, patience: float | None = None) -> Problem | None:
        """The rank that was lost, waiting for the verdict up to `patience` seconds (`limit` and a little); None: none was."""
        self._lost.wait(self.limit + 4 * self.tick + 1.0 if patience is None else patience)
        if self._lost.is_set():
            self._heard.set()
        return self._problem

    def out_of_touch(self, fault: RuntimeError) -> Problem:
        """What to say of a failed exchange when every heart beats."""
        steps = ", ".join(f"rank {rank} at step {pulse.step}" for rank, pulse in self._pulses.items())
        what = (
            f"rank {self.rank} at step {self._step} lost touch with the others ({steps}): {str(fault).splitlines()[0]}"
        )
        return Problem("P116", what, fix=RESUME)

    def _beats(self) -> None:
        while not self._over.wait(self.tick):
            try:
                self._meeting.tell(f"beat/{self.rank}", [self._count + 1, self._step, time.time()])
                found = self._hear() if self._listens.is_set() else None
            except dist.DistError:
                found = 0, "is gone, and with it the meeting point of the ranks"
            self._count += 1
            if self._over.is_set() or self._lost.is_set():
                return
            if found is not None:
                self._lose(*found)
                return

    def _watches(self) -> None:
        """The store itself may hang, with the process that keeps it; then `_beats` hangs as well and is told by this."""
        last, still = -1, 0
        while not self._over.wait(self.tick):
            if self._lost.is_set():
                return
            last, still = self._count, still + 1 if self._count == last else 0
            if still * self.tick > self.limit + 2 * self.tick:
                self._lose(0, f"has not answered for {self.limit:g} s")
                return

    def _hear(self) -> tuple[int, str | Problem] | None:
        """(rank, what befell it), or (rank, the problem as rank 0 told it)."""
        if self.rank and self._meeting.has("lost"):
            told = self._meeting.told("lost")
            return int(told["rank"]), Problem("P110", told["what"], told["file"], excerpt=told["excerpt"], fix=RESUME)
        for rank, pulse in self._pulses.items():
            if self._meeting.has(f"end/{rank}"):
                end = self._meeting.told(f"end/{rank}")
                if end["code"] in GONE_WELL:
                    continue
                return rank, self._name(rank, f"ended with exit code {end['code']}", end["problem"])
            fate = self._fate(rank)
            if fate is not None:
                return rank, fate
            if not self._meeting.has(f"beat/{rank}"):
                continue
            count, pulse.step, _ = self._meeting.told(f"beat/{rank}")
            pulse.count, pulse.still = count, pulse.still + 1 if count == pulse.count else 0
            if pulse.still * self.tick >= self.limit:
                return rank, f"has not been heard of for {self.limit:g} s"
        return None

    def _lose(self, rank: int, found: str | Problem) -> None:
        with self._lock:
            if self._lost.is_set():
                return
            problem = found if isinstance(found, Problem) else self._name(rank, found)
            self._problem = problem
            self._lost.set()
        if self.rank == 0 and rank:
            try:
                self._meeting.tell(
                    "lost", {"rank": rank, "what": problem.what, "file": problem.file, "excerpt": problem.excerpt}
                )
            except dist.DistError:
                pass
        self._release(rank)
        if not self._heard.wait(GRACE) and not self._over.is_set():
            sys.stderr.write(f"{problem}\n")
            sys.stderr.flush()
            os._exit(FAULT)

    def _name(self, rank: int, what: str, words: str | None = None) -> Problem:
        pulse = self._pulses.get(rank, _Pulse())
        where = f"rank {rank} of {self.size} {what}; the last step it told of is {pulse.step}"
        return Problem("P110", where, file=self._log(rank), excerpt=words and f"Its words: {words}", fix=RESUME)


@contextmanager
def naming(heart: Heart) -> Iterator[None]:
    """Turns a failed exchange between ranks into SartorError: P110 with the rank that was lost, P116 where none was."""
    try:
        yield
    except RuntimeError as fault:
        if not (isinstance(fault, dist.DistError) or "gloo" in str(fault)):
            raise
        raise SartorError(heart.verdict() or heart.out_of_touch(fault)) from fault
