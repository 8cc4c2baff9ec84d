"""NEFTune: noise on the embeddings of every row while training, and nowhere else.

    x + (alpha / sqrt(L d)) u,   u uniform in [-1, 1]        L: tokens of the row, d: numbers of an embedding

Jain et al. 2023, "NEFTune: Noisy Embeddings Improve Instruction Finetuning", algorithm 1. Noise is drawn from the generator that
the engine seeds for each micro-batch, as dropout is, so a resumed run draws it again. L is the row's own, also among packed rows.
"""

from __future__ import annotations

from typing import Any

import torch

from sartor.errors import ModelError, Problem
from sartor.models.base import ModelPolicy
from sartor.models.policy import CausalPolicy


def shake(policy: ModelPolicy, alpha: float) -> None:
    """Add noise of strength `alpha` in training mode. Raises ModelError M128 for a model that is no decoder."""
    if not isinstance(policy, CausalPolicy):
        what = "train.neftune is for decoders: rows of other models are padded, and their lengths are not told to the embedding"
        raise ModelError(Problem("M128", what, fix="remove train.neftune"))
    policy.noise = alpha
    policy.model.get_input_embeddings().register_forward_hook(_Noise(policy))


class _Noise:
    """Called after the embedding."""

    def __init__(self, policy: CausalPolicy) -> None:
        self.policy = policy

    def __call__(self, module: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        """[1, T] ids and [1, T, H] their embeddings -> these with noise; None leaves them."""
        if not self.policy.model.training:
            return None
        strength = self.strengths(inputs[0], output.shape[-1])
        noise = torch.empty(output.shape, dtype=torch.float32, device=output.device).uniform_(-1, 1)
        return output + (noise * strength[:, None]).to(output.dtype)

    def strengths(self, ids: torch.Tensor, width: int) -> torch.Tensor:
        """[T] alpha / sqrt(L d) of the row that each place belongs to; 0 where it is virtual."""
        policy, layout = self.policy, self.policy.bounds.layout
        lengths = layout.lengths if policy.exact.packs and layout is not None else (ids.shape[1],)
        taken = 0 if policy.virtual is None or policy.exact.shares else policy.virtual.count
        own = torch.tensor([max(1, length - taken) for length in lengths], dtype=torch.float32)
        strength = (policy.noise / (own * width).sqrt()).repeat_interleave(torch.tensor(lengths)).to(ids.device)
        return strength.masked_fill(ids[0] >= policy.vocabulary, 0.0)
