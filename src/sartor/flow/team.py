"""The ranks that train together: rank 0's side of it, and what every rank does alike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch

from sartor.engine.parallel.heart import Heart, limit, naming
from sartor.engine.parallel.meeting import Meeting
from sartor.engine.parallel.world import ALONE, World, join, leave
from sartor.errors import SartorError
from sartor.events import Event, Stepped
from sartor.flow.launch import share
from sartor.flow.processes import Processes

if TYPE_CHECKING:
    from sartor.flow.prepare import Emit
    from sartor.flow.signals import Stop

ARRIVAL = 180.0
"""Seconds that every rank has at least to come, whatever the limit of heartbeats."""
PARTING = 5.0
"""Seconds that rank 0 waits for the others to go before it takes the meeting point away."""


@dataclass(frozen=True, slots=True)
class Team:
    """The ranks that train together, as one of them sees it."""

    world: World = ALONE
    heart: Heart | None = None

    def hear(self, emit: Emit) -> Emit:
        """`emit`, with the steps told to the heart."""

        def told(event: Event) -> None:
            if isinstance(event, Stepped) and self.heart is not None:
                self.heart.at(event.step)
            emit(event)

        return told


@contextmanager
def together(heart: Heart, environ: Mapping[str, str], *, device: str, threads: int) -> Iterator[Team]:
    """What every rank does alike: take its share of the threads, join the world, and leave it when all went well.

    Raises SartorError P110 for a rank that is lost meanwhile.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(share(threads, environ))
    try:
        with naming(heart):
            world = join(environ, device=device)
            yield Team(world, heart)
            leave()
    finally:
        torch.set_num_threads(before)


class Leader:
    """Rank 0: it has the meeting point and listens to the others. A context manager; its end dismisses them."""

    def __init__(
        self, meeting: Meeting, heart: Heart, environ: Mapping[str, str], processes: Processes | None = None
    ) -> None:
        self._meeting, self._heart, self._environ, self._processes = meeting, heart, environ, processes
        self._called = False

    @classmethod
    def of_started(cls, environ: Mapping[str, str]) -> Self:
        """Of the ranks that a launcher has started. Raises SartorError P112."""
        patience = limit(environ)
        meeting = Meeting.reach(environ)
        return cls(meeting, Heart(meeting, patience), environ)

    @classmethod
    def of_this_machine(
        cls, size: int, recipe: Path, folder: Path, environ: Mapping[str, str], *, threads: int
    ) -> Self:
        """Start `size` - 1 processes here; their words go to `folder`."""
        patience = limit(environ)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        meeting = Meeting.on_this_machine(size)
        own = meeting.environ(0)
        processes = Processes(meeting, recipe, folder, threads=share(threads, own))
        heart = Heart(
            meeting,
            patience,
            fate=processes.fate,
            release=processes.release,
            log=processes.words,
        )
        return cls(meeting, heart, own, processes)

    def __enter__(self) -> Self:
        self._meeting.arrive()
        self._heart.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = 0 if error is None else getattr(error, "exit_code", 130 if kind is KeyboardInterrupt else 3)
        if not self._called:
            self._meeting.mention("call", {"end": code})
        if self._processes is not None and not self._called:
            self._processes.close(0.0)
        elif self._processes is not None:
            self._processes.close(PARTING)
        else:
            self._meeting.leave(code, str(error.problems[0]) if isinstance(error, SartorError) else None)
            self._meeting.disperse(patience=PARTING)
        self._heart.close()

    @contextmanager
    def lead(self, call: Mapping[str, Any], *, stop: Stop, device: str, threads: int) -> Iterator[Team]:
        """Call the others, wait until they have come, and train with them."""

        def check() -> None:
            if stop.asked():
                raise KeyboardInterrupt
            self._heart.check()

        self._heart.listen()
        self._meeting.tell("call", dict(call))
        self._called = True
        self._meeting.gather(patience=max(self._heart.limit, ARRIVAL), check=check)
        with together(self._heart, self._environ, device=device, threads=threads) as team:
            yield team
