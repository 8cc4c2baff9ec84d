"""One answer as it grows: what of its text may be told already, and whether a text of `stop` has ended it."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.generate.rows import UNFINISHED, Decode, Speech


class Growing:
    """The text of an answer, told in pieces that are never taken back.

    Args:
        decode: ids to text.
        stop: texts that end it.
    """

    def __init__(self, decode: Decode, stop: Sequence[str]) -> None:
        self._speech, self._stop = Speech(decode), tuple(stop)
        self._told = 0
        self.stopped = False
        """A text of `stop` has come."""

    def piece(self, ids: Sequence[int], *, over: bool) -> str:
        """What is new and sure; with `over` all that is left. A text of `stop`, and what follows it, is never told."""
        text = self._speech.text(ids)
        found = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        if found:
            self.stopped = True
            end = min(found)
        elif over:
            end = len(text)
        else:
            end = len(text.rstrip(UNFINISHED)) - self._begun(text)
        piece = text[self._told : end]
        self._told = max(self._told, end)
        return piece

    def _begun(self, text: str) -> int:
        """Characters at the end that may be the beginning of a text of `stop`."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stop):
                return size
        return 0
