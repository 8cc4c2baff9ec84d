"""Every event as a line of the run's own events.jsonl. Always on; the other trackers are copies of what it holds."""

from __future__ import annotations

from sartor.events import Event
from sartor.options import NoOptions
from sartor.protocols import Tracker
from sartor.store.run import Run

Options = NoOptions


class Jsonl:
    """Appends events to the log of a run that is locked by this process."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def see(self, event: Event) -> None:
        """Append one event."""
        self._run.log(event)

    def close(self) -> None:
        """Make what was appended survive a power cut; the run itself stays open."""
        self._run.sync()


def build(run: Run, options: NoOptions) -> Tracker:
    """The tracker of one run."""
    return Jsonl(run)
