"""A model that is only asked: the reference of a preference, the teacher of a distillation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.tokens.batch import Batch


class Still:
    """Implements `Policy` without gradients and without dropout.

    Args:
        policy: the model to ask.
        bare: ask it with its adapter switched off, which is the model that training started from; costs no second one.
    """

    def __init__(self, policy: ModelPolicy, *, bare: bool = False) -> None:
        self.policy, self.bare = policy, bare

    @contextmanager
    def _asked(self) -> Iterator[ModelPolicy]:
        training = self.policy.model.training
        self.policy.eval()
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.no_grad())
                if self.bare:
                    stack.enter_context(self.policy.reference())
                yield self.policy
        finally:
            if training:
                self.policy.train()

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[T, H] last hidden states."""
        with self._asked() as policy:
            return policy.hidden(batch)

    def logp(self, batch: Batch) -> torch.Tensor:
        """[N] fp32 log-probability of each target."""
        with self._asked() as policy:
            return policy.logp(batch)

    def nll(self, batch: Batch) -> torch.Tensor:
        """[] fp32 sum of -weight * logp."""
        with self._asked() as policy:
            return policy.nll(batch)

    def logits(self, batch: Batch) -> torch.Tensor:
        """[N, V] fp32 logits at the scored places."""
        with self._asked() as policy:
            return policy.logits(batch)

    def read(self, batch: Batch) -> torch.Tensor:
        """[N, ...] what `words` makes logits of."""
        with self._asked() as policy:
            return policy.read(batch)

    def words(self, read: torch.Tensor) -> torch.Tensor:
        """[n, V] fp32 logits of some places of what `read` gave."""
        with self._asked() as policy:
            return policy.words(read)

    def score(self, batch: Batch) -> torch.Tensor:
        """[R, k] fp32 output of the head."""
        with self._asked() as policy:
            return policy.score(batch)

    def values(self, batch: Batch) -> torch.Tensor:
        """[N] fp32 what the value head gives at the scored places."""
        with self._asked() as policy:
            return policy.values(batch)

    def logp_and_values(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """`logp` and `values` from one pass of the model."""
        with self._asked() as policy:
            return policy.logp_and_values(batch)
