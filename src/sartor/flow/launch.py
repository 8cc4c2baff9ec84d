"""Launchers: the same run in one process, in several of this machine, or in those that torchrun or Ray have started.

Rank 0 does everything as a lone process does: data, baseline, evaluation, verdict, run folder. In the stage that trains, the
others take part (`flow.worker`). They meet rank 0 at a TCP store, which also carries the heartbeats.

    Launch.of(None, os.environ)   one process, or one of torchrun's
    Launch.of(4, os.environ)      this process and three more
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sartor.errors import InputError, Problem

if TYPE_CHECKING:
    from sartor.flow.signals import Stop
    from sartor.flow.team import Leader, Team


class Launch:
    """How many processes train, and how the others come to be. A context manager around the whole run of rank 0."""

    def __init__(self, size: int = 1, environ: Mapping[str, str] | None = None) -> None:
        """`environ` names the meeting point of ranks that are started already; without it they are started here."""
        self.size, self._environ = size, environ
        self._leader: Leader | None = None

    @property
    def started(self) -> bool:
        """Whether a launcher has started the other processes, once for the whole run."""
        return self._environ is not None

    @classmethod
    def of(cls, processes: int | None, environ: Mapping[str, str], *, on: str | None = None) -> Self:
        """The launcher for a command line. Raises InputError P111 where it and the environment both ask for processes."""
        size = started(environ)
        if size is None:
            return cls(processes or 1)
        asked = f"--processes {processes}" if processes is not None else f"--on {on}" if on is not None else None
        if asked is not None:
            what = f"{asked} inside a launcher that has started {size} processes already"
            fix = f"leave out {asked}; torchrun --nproc-per-node says how many there are on a machine"
            raise InputError(Problem("P111", what, fix=fix))
        return cls(size, environ)

    def __enter__(self) -> Self:
        if self._environ is not None and self.size > 1:
            from sartor.flow.team import Leader

            self._leader = Leader.of_started(self._environ)
            self._leader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leader is not None:
            self._leader.__exit__(kind, error, trace)
            self._leader = None

    @contextmanager
    def team(
        self, call: Callable[[], Mapping[str, Any]], recipe: Path, stage: Path, *, stop: Stop, device: str, threads: int
    ) -> Iterator[Team]:
        """Call the others to train, and be rank 0 among them. `threads` are those of this machine; they are divided.

        Raises SartorError P110 for a rank that is lost, P112 for ranks that do not come, KeyboardInterrupt when the user
        stops before everyone is there.
        """
        from sartor.flow.team import Leader, Team

        if self.size == 1:
            yield Team()
            return
        if self._leader is not None:
            with self._leader.lead(call(), stop=stop, device=device, threads=threads) as team:
                yield team
            return
        with (
            Leader.of_this_machine(self.size, recipe, stage, os.environ, threads=threads) as leader,
            leader.lead(call(), stop=stop, device=device, threads=threads) as team,
        ):
            yield team


def started(environ: Mapping[str, str]) -> int | None:
    """How many processes a launcher has started, this one among them; None where there is no launcher."""
    if "RANK" not in environ or "WORLD_SIZE" not in environ:
        return None
    return number(environ, "WORLD_SIZE")


def number(environ: Mapping[str, str], name: str) -> int:
    """A variable of a launcher. Raises InputError P101 where it is no number."""
    text = environ.get(name, "")
    if not text.isdecimal():
        raise InputError(Problem("P101", f"{name}={text!r} is not a number", fix="use torchrun or --processes"))
    return int(text)


def rank(environ: Mapping[str, str]) -> int:
    """The number of this process among those a launcher has started; 0 where there is none. Raises InputError P101."""
    return 0 if started(environ) is None else number(environ, "RANK")


def share(threads: int, environ: Mapping[str, str]) -> int:
    """The threads of one process where LOCAL_WORLD_SIZE of them share a machine."""
    return max(1, threads // max(1, int(environ.get("LOCAL_WORLD_SIZE", "1"))))
