"""What the store asks of processes that write together; one process is the usual case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Ranks(Protocol):
    """Processes on one file system that call the same functions in the same order; `engine.parallel.World` is one.

    What `work` returns must be JSON, and a SartorError in one rank is raised in all of them.
    """

    @property
    def first(self) -> bool:
        """Whether this process is rank 0."""
        ...

    def each(self, work: Callable[[], Any]) -> list[Any]:
        """What `work` returned on each rank, on every rank."""
        ...

    def lead(self, work: Callable[[], T]) -> T:
        """What `work` returned on rank 0, where alone it is called, on every rank."""
        ...


class OneRank:
    """A process by itself."""

    first = True

    def each(self, work: Callable[[], Any]) -> list[Any]:
        """Just `work`."""
        return [work()]

    def lead(self, work: Callable[[], T]) -> T:
        """Just `work`."""
        return work()


ONE: Ranks = OneRank()
