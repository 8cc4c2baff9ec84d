"""What the training loop takes its batches from, and how it is steered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sartor.engine.loop import Validate
    from sartor.events import Event
    from sartor.protocols import BatchSource, Watcher


@dataclass(frozen=True, slots=True)
class Feed:
    """A source with its validation and what looks at it."""

    source: BatchSource
    validate: Validate | None
    """None where there are no rows to validate on"""
    watchers: list[Watcher]
    hear: Callable[[Event], None] = lambda event: None
    """Told of every event of the loop"""
