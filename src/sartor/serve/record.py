"""What the server hands on of every request, for whoever keeps a log of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from sartor.data.rows import Message
from sartor.serve.forms import Answer
from sartor.serve.served import Piece, Wanted


@dataclass(frozen=True, slots=True)
class Asker:
    """Who has asked what, and under which id the answer goes out."""

    id: str
    route: str
    messages: tuple[Message, ...]
    user: str | None
    arm: str | None = None
    """Of a test; None outside of one."""
    ab: str | None = None
    """Name of that test."""
    shadow_of: str | None = None
    """The request whose answer somebody else has given."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that is over."""

    asker: Asker
    model: str
    texts: tuple[str, ...]
    ended: tuple[str, ...]
    prompt_tokens: int
    made: int
    seconds: float
    time: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says of an answer."""

    id: str
    thumb: Literal["up", "down"] | None
    score: float | None
    correction: str | None
    comment: str | None


class Recorder(Protocol):
    """Keeps a log. Called from threads of its own; what it has taken survives the server."""

    @property
    def logs(self) -> bool:
        """Whether it keeps anything that feedback could be joined to."""
        ...

    def answered(self, answered: Answered) -> bool:
        """Whether it was kept."""
        ...

    def said(self, said: Said) -> bool | None:
        """Whether it was kept; None for an id that the log does not know."""
        ...


class Transcript:
    """One request as its pieces come."""

    def __init__(self, asker: Asker, wanted: Wanted) -> None:
        self.asker, self.wanted = asker, wanted
        self.answers = [Answer() for _ in range(wanted.samples)]
        self.kept = False
        """Whether it was handed on."""
        self._began = time.monotonic()

    def add(self, piece: Piece) -> bool:
        """The next piece; whether it was the last of all."""
        self.answers[piece.sample].add(piece)
        return self.over

    @property
    def over(self) -> bool:
        """Whether all its answers are."""
        return all(answer.ended is not None for answer in self.answers)

    def answered(self) -> Answered:
        """As far as it came; an answer without an end is one that its client has left."""
        return Answered(
            asker=self.asker,
            model=self.wanted.model,
            texts=tuple(answer.text for answer in self.answers),
            ended=tuple(answer.ended or "gone" for answer in self.answers),
            prompt_tokens=len(self.wanted.prompt),
            made=sum(answer.made for answer in self.answers),
            seconds=time.monotonic() - self._began,
            time=time.time(),
        )


def several(asker: Asker, prompts: Sequence[tuple[Message, ...]]) -> list[Asker]:
    """One for each prompt of a request: the first under its id, the others under id.1, id.2, ..."""
    names = [asker.id, *(f"{asker.id}.{number}" for number in range(1, len(prompts)))]
    return [replace(asker, id=name, messages=messages) for name, messages in zip(names, prompts, strict=True)]
