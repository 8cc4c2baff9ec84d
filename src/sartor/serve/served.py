"""What the server knows of a model that it serves, and of one answer that was asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.generate.sampling import Sampling

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.tokens.render import Renderer

GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Served:
    """A model by the name that requests use."""

    name: str
    policy: ModelPolicy
    renderer: Renderer
    created: int
    """Seconds since 1970."""
    adapter: str | None = None
    """Which of the policy's adapters it is; None: as the policy was opened."""
    plain: bool = False
    """Whether it is the base of the policy with no adapter at all."""
    labels: Callable[[Sequence[Any]], list[Mapping[str, Any]]] | None = None
    """What a head says of texts; None for a model that writes words."""
    embed: Callable[[Sequence[str]], np.ndarray] | None = None
    """[n, H] vectors of texts."""

    @contextmanager
    def on(self) -> Iterator[None]:
        """The policy as this model: with its adapter, or with none. For the model thread alone."""
        if self.plain or self.adapter is not None:
            with self.policy.using(None if self.plain else self.adapter):
                yield
        else:
            yield


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer, or several to the same prompt."""

    model: str
    prompt: np.ndarray
    """int64 [n]"""
    most: int
    """Tokens of each answer, at most."""
    sampling: Sampling = GREEDY
    seed: int = 0
    samples: int = 1
    stop: tuple[str, ...] = ()
    """Texts that end an answer and are no part of it."""
    top: int | None = None
    """How many likely tokens are told beside each chosen one; None: no log-probabilities at all."""
    schema: str | None = None
    """JSON schema, as JSON, that the answer must be valid by."""
    seconds: float = 120.0
    """It is ended after so long."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token with its log-probability in the model's own distribution."""

    text: str
    logp: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A further piece of an answer. The last one says why it ended."""

    sample: int
    text: str
    tokens: tuple[Token, ...] = ()
    ended: str | None = None
    """stop, length, or a reason that is a fault: late (its time was over), gone (nobody listens), closing (the server stops), fault."""
    made: int = 0
    """Tokens so far."""


@dataclass(slots=True)
class Talk:
    """One request on its way; the model thread alone changes it but for `gone`."""

    wanted: Wanted
    tell: Callable[[Piece], None]
    number: int
    deadline: float
    """Of `time.monotonic()`."""
    left: int = 0
    """Answers that are not over."""
    gone: bool = field(default=False)
    """Nobody listens any more."""
    cut: bool = field(default=False)
    """The server closes."""
