"""One continuation on its way, and what is told of it at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sartor.data.rows import Image

Decode = Callable[[Sequence[int]], str]
"""Ids of an answer to text."""
Listener = Callable[[int, str], None]
"""Told (index of the prompt, text so far) after every token."""
CONTEXT = 8
"""Tokens before the newest that are decoded again with them: how a token reads can depend on those before it."""
UNFINISHED = "\ufffd"
"""How the beginning of a character reads while its other bytes are missing."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished continuation."""

    index: int
    """Of its prompt."""
    sample: int
    """0 for the first continuation of a prompt."""
    ids: tuple[int, ...]
    """Every token that was chosen, the stop token included."""
    text: str
    """Without the stop token."""
    stopped: bool
    """It ended at a stop token rather than at its limit or the model's window."""
    logp: np.ndarray | None = None
    """float32, one for each of `ids`: its log-probability in the model's own distribution, at temperature 1 and with the whole
    vocabulary; None where it was not asked for."""


@dataclass(slots=True, eq=False)
class Row:
    """One continuation of a prompt."""

    index: int
    sample: int
    prompt: np.ndarray
    """int64 [n], n > 0"""
    limit: int
    """Tokens that may be generated in all."""
    random: np.random.Generator
    ids: list[int] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)
    stopped: bool = False
    images: tuple[Image, ...] = ()
    """What its prompt shows"""

    @property
    def need(self) -> int:
        """Places of the cache: the last token of a continuation is never looked back at."""
        return len(self.prompt) + self.limit - 1

    @property
    def over(self) -> bool:
        return self.stopped or len(self.ids) >= self.limit

    @property
    def answer(self) -> list[int]:
        """The tokens that are text."""
        return self.ids[:-1] if self.stopped else self.ids

    def add(self, token: int, stop_ids: frozenset[int]) -> None:
        """Take the token that was chosen."""
        self.ids.append(token)
        self.stopped = token in stop_ids

    def completion(self, decode: Decode) -> Completion:
        """What is told of the row when it is over."""
        logp = np.asarray(self.logp, dtype=np.float32) if self.logp else None
        return Completion(self.index, self.sample, tuple(self.ids), decode(self.answer), self.stopped, logp)


def add_all(
    rows: Sequence[Row], tokens: Sequence[int], stop_ids: frozenset[int], heard: Callable[[Row], None] | None
) -> None:
    """Give each row the token that was chosen for it, and tell of it."""
    for row, token in zip(rows, tokens, strict=True):
        row.add(token, stop_ids)
        if heard is not None:
            heard(row)


class Speech:
    """The text of a growing answer, at a cost that does not grow with it.

    Only the newest tokens are decoded, with some before them: their text is what the longer piece reads more than the shorter.
    A character that is not complete yet waits for its other tokens.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._settled = ""
        self._begin = self._read = 0

    def text(self, ids: Sequence[int]) -> str:
        """The text of `ids`, which begin with what was given before."""
        known, now = self._decode(ids[self._begin : self._read]), self._decode(ids[self._begin :])
        text = self._settled + now[len(known) :]
        if len(ids) - self._begin >= 2 * CONTEXT and not now.endswith(UNFINISHED):
            self._settled, self._begin, self._read = text, len(ids) - CONTEXT, len(ids)
        return text
