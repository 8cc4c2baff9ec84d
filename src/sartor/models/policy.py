"""A decoder-only model as objectives see it: packed batches in, hidden states and log-probabilities out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from sartor.models.attention import NAME
from sartor.models.bounds import RowBounds
from sartor.models.filler import compiled, filled
from sartor.models.head import Shape, head_logits, head_logp, head_nll
from sartor.tokens.batch import Batch, alone

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.adapter import Adapter


@dataclass(frozen=True, slots=True)
class Exactness:
    """What the probe measured on this very model."""

    packs: bool = False
    """Rows laid end to end do not see each other."""
    shares: bool = False
    """Rows that begin alike can continue one beginning that is computed once."""
    head: Shape | None = None
    """How trunk and head give the model's own logits; None: only the model's own forward does."""
    packing_error: float = float("nan")
    """Largest difference of a logit between a row packed and the row alone."""
    sharing_error: float = float("nan")
    """Largest difference of a logit between a row that shares its beginning and the row alone."""
    head_error: float = float("nan")
    """Largest difference between trunk + head and the model's own logits."""
    attention: str = ""
    """How attention over packed rows is computed, and why."""
    notes: tuple[str, ...] = field(default=())


class CausalPolicy:
    """Implements `Policy` for any causal language model of transformers.

    `adapter` is what a method has put beside the model's own weights and is in use, `adapters` all there are, by name.
    `rates` names the parameters for which a method asks for a multiple of the learning rate.
    """

    def __init__(self, model: PreTrainedModel, *, device: torch.device, exact: Exactness) -> None:
        self.model, self.device, self.exact = model, device, exact
        self.adapter: Adapter | None = None
        self.adapters: dict[str, Adapter] = {}
        self.native = False
        """Whether the compiled kernels may be used."""
        self.computed_by = "plain PyTorch"
        """What computes the parts of the model, for people."""
        self.rates: dict[str, float] = {}
        self.bounds = RowBounds()
        """What tells the attention where the rows of the batch in flight begin."""

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
    def drops(self) -> bool:
        """Whether anything is left out at random in training mode."""
        parts = list(self.model.modules())
        rates = [part.p for part in parts if isinstance(part, torch.nn.Dropout)]
        rates += [rate for part in parts for name, rate in vars(part).items() if "drop" in name and type(rate) is float]
        return any(rates)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[T, H] last hidden states; rows see only themselves."""
        if self._apart(batch):
            return torch.cat([self.hidden(part) for part in alone(batch)])
        whole = self._filled(batch)
        out = self.model.base_model(
            input_ids=whole.ids, position_ids=whole.position, use_cache=False, return_dict=True, **self._rows(whole)
        )
        state: torch.Tensor = out.last_hidden_state[0]
        return state[: batch.tokens]

    def _filled(self, batch: Batch) -> Batch:
        """The batch as it is computed: of a round size where every size costs a kernel of its own."""
        return filled(batch) if self.exact.packs and compiled(self.model.dtype, self.device) else batch

    def _rows(self, batch: Batch) -> dict[str, Any]:
        """What tells the attention where rows begin. Raises ValueError for a layout that the probe found not to be exact."""
        if not self.exact.packs:
            return {}
        if not self.exact.shares and any(segment >= 0 for segment in batch.continues):
            raise ValueError("this model cannot share the beginnings of rows exactly; give it whole rows")
        self.bounds.set(batch.lengths, self.device, batch.continues)
        return {"row_bounds": self.bounds}

    def _apart(self, batch: Batch) -> bool:
        """Whether the rows must be computed one by one, because this model would mix them."""
        return not self.exact.packs and len(batch.lengths) > 1

    def logits(self, batch: Batch) -> torch.Tensor:
        """[N, V] fp32 logits at the scored places."""
        if self.exact.head is None:
            return self._whole_logits(batch)
        weight, bias = self._head()
        return head_logits(self.hidden(batch)[batch.at], weight, bias, self.exact.head)

    def logp(self, batch: Batch) -> torch.Tensor:
        """[N] fp32 log-probability of each target."""
        if self.exact.head is None:
            logits = self._whole_logits(batch)
            return logits.gather(1, batch.target[:, None])[:, 0] - logits.logsumexp(dim=1)
        weight, bias = self._head()
        return head_logp(self.hidden(batch)[batch.at], weight, bias, batch.target, self.exact.head)

    def nll(self, batch: Batch) -> torch.Tensor:
        """[] fp32 sum of -weight * logp over the scored places."""
        if self.exact.head is not None and self.exact.head.plain:
            weight, bias = self._head()
            if bias is None:
                hidden = self.hidden(batch)[batch.at]
                return head_nll(hidden, weight, batch.target, batch.weight, native=self.native)
        return -(batch.weight * self.logp(batch)).sum()

    def score(self, batch: Batch) -> torch.Tensor:
        """[R, k] fp32 output of the head on whole rows. Raises ValueError for a model that has none."""
        raise ValueError("this model has no head for whole rows")

    def _whole_logits(self, batch: Batch) -> torch.Tensor:
        if self._apart(batch):
            return torch.cat([self._whole_logits(part) for part in alone(batch)])
        whole = self._filled(batch)
        out = self.model(
            input_ids=whole.ids,
            position_ids=whole.position,
            use_cache=False,
            logits_to_keep=batch.at,
            **self._rows(whole),
        )
        logits: torch.Tensor = out.logits[0].float()
        return logits

    def _head(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        head = self.model.get_output_embeddings()
        return head.weight, getattr(head, "bias", None)

    @contextmanager
    def reference(self) -> Iterator[CausalPolicy]:
        """The same weights with the adapter switched off: the model training started from."""
        if self.adapter is None:
            raise ValueError("only a model with an adapter holds its own reference")
        with self.using(None):
            yield self

    @contextmanager
    def using(self, name: str | None) -> Iterator[CausalPolicy]:
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

    @contextmanager
    def attention(self, name: str) -> Iterator[None]:
        """The model with another of transformers' attention implementations, where it lets one choose."""
        before = self.model.config._attn_implementation
        if before != NAME:
            yield
            return
        self.model.set_attn_implementation(name)
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    @contextmanager
    def generating(self) -> Iterator[PreTrainedModel]:
        """The model in evaluation mode with an attention that works with a cache and padding, without gradients."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode(), self.attention("eager" if _softcapped(self.model) else "sdpa"):
                yield self.model
        finally:
            self.model.train(training)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Name -> parameter of everything that moves, each tied parameter once."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def tables(self) -> frozenset[str]:
        """Names of embeddings and output heads: rows looked up by token, which some optimisers move differently."""
        found = {id(part.weight) for part in self.model.modules() if isinstance(part, torch.nn.Embedding)}
        head = self.model.get_output_embeddings()
        found |= {id(parameter) for parameter in head.parameters()} if head is not None else set()
        return frozenset(name for name, parameter in self.model.named_parameters() if id(parameter) in found)

    def train(self) -> None:
        """Dropout on."""
        self.model.train()

    def eval(self) -> None:
        """Dropout off."""
        self.model.eval()


def _softcapped(model: PreTrainedModel) -> bool:
    return getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
