"""The validation loss, shared out to the ranks that train together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from sartor.engine.precision import Masters
from sartor.models.policy import CausalPolicy
from sartor.protocols import Loss
from sartor.tokens.batch import Batch, Rendered
from sartor.tokens.source import ALL, seated

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


def row_losses(policy: CausalPolicy, rows: Sequence[Rendered], micro_tokens: int | None) -> list[float]:
    """[rows] each row's mean loss per scored weight, dropout off; 0 for a row without one."""
    policy.eval()
    result = [0.0] * len(rows)
    numbered = [replace(row, row=number) for number, row in enumerate(rows)]
    with torch.no_grad():
        for batch in seated(numbered, micro_tokens, ALL):
            batch = batch.to(policy.device)
            sums = torch.zeros(2, len(batch.rows), dtype=torch.float64, device=policy.device)
            parts = torch.stack([-policy.logp(batch).double() * batch.weight, batch.weight.double()])
            total, weight = sums.index_add_(1, batch.row, parts)
            for number, loss in zip(batch.rows, (total / weight.clamp_min(1e-12)).tolist(), strict=True):
                result[number] = loss
    return result


def _scored(policy: CausalPolicy, batch: Batch) -> Loss:
    return Loss(policy.nll(batch), batch.weight.sum())
