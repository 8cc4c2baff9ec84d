"""What passes between rooms, as types only. An implementation never has to inherit from these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from sartor.events import Event

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sartor.tokens.batch import Batch
    from sartor.tokens.source import Step


@dataclass(frozen=True, slots=True)
class Loss:
    """What an objective returns for one batch.

    `total` is a sum over the batch, `weight` what it must be divided by once every batch of the optimiser step (over all
    micro-batches and ranks) has been added; `metrics` are sums over the batch as well, divided by the same weight.
    """

    total: torch.Tensor
    weight: torch.Tensor
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Traits:
    """What an objective is about: what it reads of which rows, and what it needs beside the model that learns."""

    rows: frozenset[str]
    """Kinds of rows it learns from."""
    reads: Literal["answers", "candidates", "input", "prompt"] = "answers"
    """answers: the whole row, loss on what is to be said; candidates: every answer to the prompt, the renderings of a row
    together; input: what stands before the answer, which is no text but `labels`; prompt: the model writes the answers."""
    learns: Literal["tokens", "rows"] = "tokens"
    """tokens: its weight counts tokens and its validation is their likelihood; rows: it counts rows or groups of them, and
    its own loss is its validation."""
    roles: frozenset[str] = frozenset()
    """Further models that `loss` takes as keyword arguments: reference, teacher ..."""
    metrics: tuple[str, ...] = ()
    """Names of the sums in `Loss.metrics`."""
    head: Literal["words", "classes", "labels", "number", "tags", "reward"] = "words"
    """What stands on the model's last hidden states."""
    models: frozenset[str] = frozenset({"causal"})
    """Kinds of models that can learn it: causal, encoder, encoder_decoder, vision."""
    symbols: tuple[str, ...] = ()
    """Control tokens that it puts into texts itself: mask, sentinels, end; `loss` then takes `symbols` (tokens/symbols.py)."""

    @property
    def together(self) -> bool:
        """Whether all renderings of a row have to stay in one batch."""
        return self.reads == "candidates"


class Policy(Protocol):
    """All that an objective may ask of a model. N: scored places of the batch, T: tokens, H: hidden size, V: vocabulary."""

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[T, H] last hidden states."""
        ...

    def logp(self, batch: Batch) -> torch.Tensor:
        """[N] fp32 log-probability of each target; logits exist only at scored places, in chunks."""
        ...

    def nll(self, batch: Batch) -> torch.Tensor:
        """[] fp32 sum of -weight * logp; the same number as from `logp`, with its gradient made in the forward pass."""
        ...

    def logits(self, batch: Batch) -> torch.Tensor:
        """[N, V] fp32 logits at the scored places."""
        ...

    def read(self, batch: Batch) -> torch.Tensor:
        """[N, ...] what `words` makes logits of, far smaller than they are."""
        ...

    def words(self, read: torch.Tensor) -> torch.Tensor:
        """[n, V] fp32 logits of some places of what `read` gave."""
        ...

    def score(self, batch: Batch) -> torch.Tensor:
        """[R, k] fp32 output of the head on whole rows (classes, labels, number, reward); of tags, [T, k]."""
        ...

    def values(self, batch: Batch) -> torch.Tensor:
        """[N] fp32 what a value head gives at the scored places."""
        ...

    def logp_and_values(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """`logp` and `values` from one pass of the model."""
        ...


class BatchSource(Protocol):
    """Batches in an order that is a pure function of (seed, epoch, cursor), or that the policy itself has written."""

    @property
    def steps(self) -> int:
        """Optimiser steps in the whole run."""
        ...

    @property
    def done(self) -> int:
        """Optimiser steps taken."""
        ...

    @property
    def micro_tokens(self) -> int | None:
        """Tokens of one forward pass, at most; None: every unit goes alone."""
        ...

    @property
    def epochs(self) -> float:
        """How many epochs have been taken so far."""
        ...

    def take(self) -> Step:
        """The next optimiser step. Raises StopIteration after the last."""
        ...

    def again(self, micro_tokens: int | None) -> Step:
        """The step taken last once more, packed into micro-batches of another size from now on."""
        ...

    def state(self) -> dict[str, Any]:
        """A JSON object from which `restore` continues."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        ...


@dataclass(frozen=True, slots=True)
class Credit:
    """How the rewards of whole answers become advantages of their tokens."""

    rule: Literal["gae", "group", "leave_one_out", "to_go"]
    """gae: with a value for every token; group and leave_one_out: against the other answers to the prompt; to_go: what is
    still to come."""
    discount: float = 1.0
    """gamma: what a reward counts one token earlier."""
    trace: float = 1.0
    """lambda of gae: 0 trusts the values, 1 the rewards."""
    divide: bool = False
    """Divide by the standard deviation of the group."""
    whiten: bool = False
    """Over all tokens of a round: mean 0 and deviation 1 (gae: the same)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a watcher wants: `stop` training, or mark this step's weights as the ones to `keep`, and why."""

    stop: bool = False
    keep: bool = False
    note: str = ""
    code: str = ""


class Watcher(Protocol):
    """Looks at events and may answer. Its state is a pure fold of the events it has seen, so resume replays them."""

    def see(self, event: Event) -> Verdict | None:
        """Called once per event."""
        ...


class Tracker(Protocol):
    """Listens to events and sends them elsewhere."""

    def see(self, event: Event) -> None:
        """Called once per event."""
        ...

    def close(self) -> None:
        """Flush and release."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model's result on one test row: what every metric is computed from."""

    id: str
    prompt: str
    reference: str
    prediction: str | None = None
    """Generated text without end-of-turn; None where nothing was generated."""
    label: str | None = None
    """For classification: the label that scored best, as a string or at the head."""
    label_scores: Mapping[str, float] = field(default_factory=dict)
    """Log-probability of each label: of its string, end-of-turn included, or at the head, where those of one label sum to 1;
    where a row may have several, of each being there."""
    labels: Sequence[str] | None = None
    """Where a row may have several labels: those that were given."""
    right_labels: Sequence[str] | None = None
    """Those that are right."""
    tags: Sequence[str] | None = None
    """The tag given to each word."""
    right_tags: Sequence[str] | None = None
    """The tag that is right for each word."""
    value: float | None = None
    """For regression: the number that was given."""
    nll: float = 0.0
    """Sum of -log p over the reference answer's tokens, end-of-turn included (nats)."""
    tokens: int = 0
    """How many tokens `nll` sums over."""
    bytes: int = 0
    """UTF-8 bytes of the reference answer."""
    stopped: bool = True
    """Whether generation ended by itself rather than at max_new_tokens."""
    ratings: tuple[float, ...] = ()
    """For answers that were compared or judged: how good each is said to be, higher is better (a verdict: 1 or 0)."""
    scores: tuple[float, ...] = ()
    """What the model makes of each of them: its log-probability, end-of-turn included, or its reward."""
    lengths: tuple[int, ...] = ()
    """How many tokens each of them has."""
    columns: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Metric(Protocol):
    """A metric as sufficient statistics, so that one bootstrap serves all: `combine(sum over rows of stats(row))`."""

    @property
    def name(self) -> str:
        """Its key in the recipe."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Direction."""
        ...

    @property
    def needs(self) -> str:
        """prediction | label | probabilities | value | tags | nll ...: what must be in the Outcome."""
        ...

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, k] float64, one line of statistics per row."""
        ...

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., k] sums of statistics -> [...] values."""
        ...


@runtime_checkable
class Scaled(Protocol):
    """A metric on a scale of its own: where every row happens to have 1, it is still no share of rows that are right."""

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """Where the value of a metric comes from, as a report can show it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]
    """A cell for each column: a text, a count, a number, or None where there is none."""
    note: str = ""
    """What the table leaves out."""


@runtime_checkable
class Detailed(Protocol):
    """A metric that can also say where its value comes from."""

    def details(self, outcomes: Sequence[Outcome], confidence: float) -> tuple[Table, ...]:
        """Tables for a report; rates in them come with an interval at this level. Equal titles mean equal tables."""
        ...


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of numbers, drawn by the report. Points are (x, y)."""

    title: str
    x: str
    """What the horizontal axis shows."""
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    """By model, or by what the line stands for."""
    kind: Literal["line", "points"] = "line"
    diagonal: bool = False
    """Whether x = y is drawn, as where the two ought to agree."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "title": self.title,
            "x": self.x,
            "y": self.y,
            "series": {name: [list(point) for point in points] for name, points in self.series.items()},
            "kind": self.kind,
            "diagonal": self.diagonal,
        }


class TextGenerator(Protocol):
    """Asks some model, local or remote, for text."""

    def generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[tuple[int, str, bool]]:
        """Yields (index of the prompt, text, ended by itself), in the order they finish. temperature 0 is greedy."""
        ...


Saver = Callable[[Path], None]
"""Writes a file or folder at the given path."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model that is asked in plain text, by what the user calls it."""

    model: str
    """A model folder, a hub id or `sartor/nano`; with an endpoint, the model's name there."""
    task: Literal["chat", "rewrite", "fill"] = "chat"
    """chat: answers a user; rewrite: an encoder-decoder, turns one text into another; fill: a masked model, is asked with
    one `MASK` in the text and answers with words that fit there, the likeliest first, one a line."""
    endpoint: str | None = None
    """Base URL of an OpenAI-compatible server; None for a model of this machine."""
    key: str | None = None
    """Name of the environment variable that holds the key of the endpoint."""
    form: str | None = None
    """JSON schema, as text, that every answer is to follow: an endpoint that can is held to it, others are only asked to."""


MASK = "\ue010"
"""Stands where a masked model is asked for a word; a character of Unicode's private use, which no text needs."""


class Writer(Protocol):
    """A model that is asked in plain text and answers in plain text."""

    def write(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int
    ) -> Iterator[tuple[int, str]]:
        """Yields (index of the prompt, its answer) in the order they finish. temperature 0 is the likeliest answer."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model behind an endpoint answered to the prompt at `place`."""

    place: int
    text: str
    tokens: tuple[int, int] | None = None
    """How many were read and how many written, where the endpoint tells."""


@runtime_checkable
class Metered(Protocol):
    """A `Writer` that also tells what its answers cost."""

    def replies(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int) -> Iterator[Reply]:
        """As `write`, in the order they finish."""
        ...


Models = Callable[[Speaker], Writer]
"""Opens a model. Raises InputError where there is none of that name."""
