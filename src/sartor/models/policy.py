"""A decoder-only model as objectives see it: packed batches in, hidden states and log-probabilities out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from sartor.models.attention import NAME
from sartor.models.base import Exactness, ModelPolicy
from sartor.models.bounds import RowBounds
from sartor.models.filler import compiled, filled
from sartor.models.virtual import Given, lead
from sartor.tokens.batch import Batch, alone

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.models.heads import HeadSpec


class CausalPolicy(ModelPolicy):
    """Implements `Policy` for any causal language model of transformers."""

    kind = "causal"

    def __init__(
        self, model: PreTrainedModel, *, device: torch.device, exact: Exactness, head: HeadSpec | None = None
    ) -> None:
        super().__init__(model, device=device, exact=exact, head=head)
        self.bounds = RowBounds()
        """What tells the attention where the rows of the batch in flight begin."""

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[T, H] last hidden states; rows see only themselves."""
        if self._apart(batch):
            return torch.cat([self.hidden(part) for part in alone(batch)])
        inputs, own = self._inputs(batch)
        state: torch.Tensor = self.model.base_model(**inputs).last_hidden_state[0]
        return state[own]

    def _inputs(self, batch: Batch) -> tuple[dict[str, Any], slice | torch.Tensor]:
        """What goes into the model, and which of its places are those of the batch."""
        own: slice | torch.Tensor = slice(batch.tokens)
        more: dict[str, Any] = {}
        if self.virtual is not None:
            led = lead(batch, self.virtual.ids(self.vocabulary), share=self.exact.shares)
            batch, own = led.batch, led.own
            if self.virtual.layers is not None:
                more["given"] = Given(self.virtual.layers(), led.places, led.which)
                batch = replace(batch, ids=batch.ids.clamp_max(self.vocabulary - 1))
        whole = self._filled(batch)
        inputs = {"input_ids": whole.ids, "position_ids": whole.position, "use_cache": False, "return_dict": True}
        return inputs | self._rows(whole) | more, own

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

    def _read(self, batch: Batch) -> torch.Tensor:
        """[N, H] hidden states at the scored places."""
        return self.hidden(batch)[batch.at]

    def _score(self, batch: Batch) -> torch.Tensor:
        """[R, k] from each row's last hidden state, or [T, k]."""
        assert self.head is not None
        if self.head.place == "tokens":
            return self._tags(batch)
        if self.exact.last:
            logits: torch.Tensor = self.model.get_submodule(self.head_modules()[0])(self.hidden(batch)[batch.last])
            return logits
        return torch.cat([self.model(input_ids=part.ids, use_cache=False).logits for part in alone(batch)])

    def _tags(self, batch: Batch) -> torch.Tensor:
        if self._apart(batch):
            return torch.cat([self._tags(part) for part in alone(batch)])
        inputs, own = self._inputs(batch)
        logits: torch.Tensor = self.model(**inputs).logits[0]
        return logits[own]

    def _whole_logits(self, batch: Batch) -> torch.Tensor:
        if self._apart(batch):
            return torch.cat([self._whole_logits(part) for part in alone(batch)])
        inputs, own = self._inputs(batch)
        at = batch.at if isinstance(own, slice) else own[batch.at]
        logits: torch.Tensor = self.model(**inputs, logits_to_keep=at).logits[0].float()
        return logits

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
        """The model, still, with an attention that works with a cache and padding."""
        with self.still(), self.attention("eager" if _softcapped(self.model) else "sdpa"):
            yield self.model


def _softcapped(model: PreTrainedModel) -> bool:
    return getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None
