"""What a policy of any kind of model is: how its words are scored, what moves in it, its heads, its reference.

T: tokens of a batch, N: scored places, R: rows, H: hidden size, V: vocabulary, k: outputs of a head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import torch

from sartor.models.head import Shape, head_logits, head_logp, head_nll
from sartor.models.kinds import Kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.adapter import Adapter
    from sartor.models.features import Features
    from sartor.models.grown import Rows
    from sartor.models.heads import HeadSpec
    from sartor.models.virtual import Virtual
    from sartor.tokens.batch import Batch
    from sartor.tokens.growth import Growth

ROWS = "new_tokens"
"""What the rows of new tokens are called that move by themselves."""
VALUE = "value_head"
"""What the parameters of a value head are called."""


@dataclass(frozen=True, slots=True)
class Exactness:
    """What the probe measured on this very model."""

    packs: bool = False
    """Rows of one batch do not see each other."""
    shares: bool = False
    """Rows that begin alike can continue one beginning that is computed once."""
    head: Shape | None = None
    """How trunk and head give the model's own logits; None: only the model's own forward does."""
    last: bool = False
    """The head of whole rows reads their last hidden states as they are."""
    packing_error: float = float("nan")
    """Largest difference of a logit between a row beside others and the row alone."""
    sharing_error: float = float("nan")
    """Largest difference of a logit between a row that shares its beginning and the row alone."""
    head_error: float = float("nan")
    """Largest difference between trunk + head and the model's own logits."""
    attention: str = ""
    """How attention over the rows of a batch is computed, and why."""
    notes: tuple[str, ...] = field(default=())


class ModelPolicy(ABC):
    """Implements `Policy`, but for how a batch goes through the model.

    `adapter` is what a method has put beside the model's own weights and is in use, `adapters` all there are, by name.
    `rates` names the parameters for which a method asks for a multiple of the learning rate.
    """

    kind: ClassVar[Kind]

    def __init__(
        self, model: PreTrainedModel, *, device: torch.device, exact: Exactness, head: HeadSpec | None = None
    ) -> None:
        self.model, self.device, self.exact = model, device, exact
        self.head = head
        """What the head tells; None: words."""
        self.fresh: tuple[str, ...] = ()
        """Modules of the trunk that the base did not have and the head needs; they belong to the head."""
        self.adapter: Adapter | None = None
        self.adapters: dict[str, Adapter] = {}
        self.value_head: torch.nn.Linear | None = None
        """Tells what a place is worth; not part of the saved model."""
        self.features: Features | None = None
        """What a frozen trunk gives of rows, where the head alone moves."""
        self.native = False
        """Whether the compiled kernels may be used."""
        self.computed_by = "plain PyTorch"
        """What computes the parts of the model, for people."""
        self.rates: dict[str, float] = {}
        self.growth: Growth | None = None
        """Tokens that the base did not have."""
        self.rows: Rows | None = None
        """Their rows, where these move and the others of the embedding do not."""
        self.noise = 0.0
        """Strength of the noise on embeddings in training mode (models/neftune.py)."""

    @property
    def vocabulary(self) -> int:
        """V, the rows of the embedding."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def window(self) -> int | None:
        """Longest sequence the model was made for, in tokens."""
        config = self.model.config.get_text_config()
        value = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return int(value) if value else None

    @property
    def pad(self) -> int:
        """Token that padding is made of; it is masked."""
        value = getattr(self.model.config.get_text_config(), "pad_token_id", None)
        return 0 if value is None else int(value)

    @property
    def drops(self) -> bool:
        """Whether anything is left out or changed at random in training mode."""
        parts = list(self.model.modules())
        rates = [part.p for part in parts if isinstance(part, torch.nn.Dropout)]
        rates += [rate for part in parts for name, rate in vars(part).items() if "drop" in name and type(rate) is float]
        return any(rates) or self.noise > 0

    @abstractmethod
    def hidden(self, batch: Batch) -> torch.Tensor:
        """[T, H] last hidden states; rows see only themselves."""

    def trunk(self, batch: Batch) -> torch.Tensor:
        """[T, H] the hidden states that a head on whole rows reads."""
        return self.hidden(batch)

    @abstractmethod
    def _read(self, batch: Batch) -> torch.Tensor:
        """[N, H] what the output head reads at the scored places."""

    @abstractmethod
    def _whole_logits(self, batch: Batch) -> torch.Tensor:
        """[N, V] fp32 logits at the scored places, by the model's own forward."""

    @abstractmethod
    def _score(self, batch: Batch) -> torch.Tensor:
        """Output of the head as it comes from the model."""

    def logits(self, batch: Batch) -> torch.Tensor:
        """[N, V] fp32 logits at the scored places."""
        self._needs_words()
        if self.exact.head is None:
            return self._whole_logits(batch)
        weight, bias = self._head()
        return head_logits(self._read(batch), weight, bias, self.exact.head)

    def read(self, batch: Batch) -> torch.Tensor:
        """[N, ...] what `words` makes logits of: hidden states at the scored places, which are far smaller than the logits."""
        self._needs_words()
        return self._whole_logits(batch) if self.exact.head is None else self._read(batch)

    def words(self, read: torch.Tensor) -> torch.Tensor:
        """[n, V] fp32 logits of some places of what `read` gave."""
        if self.exact.head is None:
            return read
        weight, bias = self._head()
        return head_logits(read, weight, bias, self.exact.head)

    def logp(self, batch: Batch) -> torch.Tensor:
        """[N] fp32 log-probability of each target."""
        self._needs_words()
        return self._whole_logp(batch) if self.exact.head is None else self._logp(self._read(batch), batch)

    def nll(self, batch: Batch) -> torch.Tensor:
        """[] fp32 sum of -weight * logp over the scored places."""
        self._needs_words()
        if self.exact.head is not None and self.exact.head.plain:
            weight, bias = self._head()
            if bias is None:
                return head_nll(self._read(batch), weight, batch.target, batch.weight, native=self.native)
        return -(batch.weight * self.logp(batch)).sum()

    def score(self, batch: Batch) -> torch.Tensor:
        """[R, k] fp32 output of the head on whole rows; of tags, [T, k]. Raises ValueError for a model that has none."""
        if self.head is None:
            raise ValueError("this model has no head for whole rows")
        return self._score(batch).float() if self.features is None else self.features.score(batch)

    def add_value_head(self) -> None:
        """Put a value head on what the output head reads; it starts at zero, as in Huang et al. 2024 (N+ details, 2.2)."""
        if self.value_head is not None:
            raise ValueError("this policy has a value head already")
        with torch.random.fork_rng(devices=[]):
            self.value_head = torch.nn.Linear(self.model.config.get_text_config().hidden_size, 1)
        for parameter in self.value_head.parameters():
            torch.nn.init.zeros_(parameter)
        self.value_head.to(self.device)

    def values(self, batch: Batch) -> torch.Tensor:
        """[N] fp32 what the value head gives at the scored places. Raises ValueError for a policy that has none."""
        return self._values(self._read(batch))

    def logp_and_values(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """`logp` and `values` from one pass of the model; from two where only its own forward gives the logits."""
        self._needs_words()
        read = self._read(batch)
        logp = self._whole_logp(batch) if self.exact.head is None else self._logp(read, batch)
        return logp, self._values(read)

    def _values(self, read: torch.Tensor) -> torch.Tensor:
        if self.value_head is None:
            raise ValueError("this policy has no value head; add_value_head gives it one")
        value: torch.Tensor = self.value_head(read.float())[:, 0]
        return value

    def _logp(self, read: torch.Tensor, batch: Batch) -> torch.Tensor:
        assert self.exact.head is not None
        weight, bias = self._head()
        return head_logp(read, weight, bias, batch.target, self.exact.head)

    def _whole_logp(self, batch: Batch) -> torch.Tensor:
        logits = self._whole_logits(batch)
        return logits.gather(1, batch.target[:, None])[:, 0] - logits.logsumexp(dim=1)

    def _needs_words(self) -> None:
        if self.head is not None:
            raise ValueError(f"this model has a head of {self.head.kind} in place of words")

    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        head = self.model.get_output_embeddings()
        weight = head.weight if self.rows is None else self.rows.live(head.weight)
        return weight, getattr(head, "bias", None)

    @contextmanager
    def reference(self) -> Iterator[Self]:
        """The same weights with the adapter switched off: the model training started from."""
        if self.adapter is None:
            raise ValueError("only a model with an adapter holds its own reference")
        with self.using(None):
            yield self

    @contextmanager
    def using(self, name: str | None) -> Iterator[Self]:
        """The base with another of its adapters, or with none. Raises KeyError for a name that was not opened."""
        before, wanted = self.adapter, None if name is None else self.adapters[name]
        self._switch(wanted)
        try:
            yield self
        finally:
            self._switch(before)

    def _switch(self, wanted: Adapter | None) -> None:
        if self.adapter is not wanted:
            if self.adapter is not None:
                self.adapter.off()
            if wanted is not None:
                wanted.on()
            self.adapter = wanted

    @property
    def virtual(self) -> Virtual | None:
        """What stands before every row without being in it."""
        return None if self.adapter is None else self.adapter.virtual

    def head_modules(self) -> list[str]:
        """Names of the modules that the head consists of: those beside the trunk, and those it needs in it."""
        if self.head is None:
            return []
        trunk = self.model.base_model
        beside = [name for name, part in self.model.named_children() if part is not trunk]
        return [name for name in beside if any(True for _ in self.model.get_submodule(name).parameters())] + [
            *self.fresh
        ]

    def release(self) -> None:
        """Let every weight of the model move."""
        self.model.requires_grad_(True)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Name -> parameter of everything that moves, each tied parameter once."""
        found = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        if self.rows is not None:
            found |= {f"{ROWS}.{name}": rows for name, rows in self.rows.parameters.items()}
        if self.value_head is not None:
            found |= {f"{VALUE}.{name}": parameter for name, parameter in self.value_head.named_parameters()}
        return found

    def tables(self) -> frozenset[str]:
        """Names of embeddings and output heads: rows looked up by token, which some optimisers move differently."""
        found = {id(part.weight) for part in self.model.modules() if isinstance(part, torch.nn.Embedding)}
        head = self.model.get_output_embeddings()
        found |= {id(parameter) for parameter in head.parameters()} if head is not None else set()
        own = frozenset(name for name, parameter in self.model.named_parameters() if id(parameter) in found)
        return own if self.rows is None else own | {f"{ROWS}.{name}" for name in self.rows.parameters}

    @contextmanager
    def still(self) -> Iterator[None]:
        """In evaluation mode and without gradients; afterwards as before."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.train(training)

    @contextmanager
    def generating(self) -> Iterator[PreTrainedModel]:
        """The model, still, as it works with a cache and padding."""
        with self.still():
            yield self.model

    def train(self) -> None:
        """Dropout on."""
        self.model.train()

    def eval(self) -> None:
        """Dropout off."""
        self.model.eval()
