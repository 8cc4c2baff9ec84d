"""The validation loss, shared out to the ranks that train together."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from sartor.engine.precision import Masters
from sartor.models.policy import CausalPolicy
from sartor.protocols import Loss
from sartor.tokens.batch import Batch

LARGEST = 709.0
"""Losses above it have no finite exponential."""


def mean_loss(policy: CausalPolicy, batches: Iterable[Batch], weights: Masters | None = None) -> dict[str, float]:
    """Mean loss per scored weight over the batches of all ranks, dropout off; perplexity is its exponential.

    `weights` says how several ranks hold the model; None: this process has all of it, and all batches.
    """
    weights = Masters({}) if weights is None else weights
    policy.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=policy.device)
    with torch.no_grad():
        for batch in batches:
            found = weights.loss(_scored, policy, batch.to(policy.device))
            sums += torch.stack([found.total, found.weight]).double()
    weights.world.sum_([sums])
    total, weight = sums.tolist()
    loss = total / weight
    return {"loss": loss, "perplexity": math.exp(loss) if loss < LARGEST else math.inf}


def _scored(policy: CausalPolicy, batch: Batch) -> Loss:
    return Loss(policy.nll(batch), batch.weight.sum())
