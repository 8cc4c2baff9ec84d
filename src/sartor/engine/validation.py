"""The validation loss, shared out to the ranks that train together."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from sartor.engine.precision import Masters, Objective
from sartor.models.base import ModelPolicy
from sartor.protocols import Loss
from sartor.tokens.batch import Batch

LARGEST = 709.0
"""Losses above it have no finite exponential."""


def mean_loss(
    policy: ModelPolicy,
    batches: Iterable[Batch],
    weights: Masters | None = None,
    *,
    objective: Objective | None = None,
    metrics: tuple[str, ...] = (),
) -> dict[str, float]:
    """Mean loss per scored weight over the batches of all ranks, dropout off.

    `weights` says how several ranks hold the model; None: this process has all of it, and all batches. Without an
    `objective` the loss is the negative log-likelihood, and perplexity, its exponential, stands beside it; with one, its
    loss and its `metrics`.
    """
    weights = Masters({}) if weights is None else weights
    policy.eval()
    sums = torch.zeros(2 + len(metrics), dtype=torch.float64, device=policy.device)
    with torch.no_grad():
        for batch in batches:
            found = weights.loss(objective or _scored, policy, batch.to(policy.device))
            numbers = [found.total, found.weight, *(found.metrics[name] for name in metrics)]
            sums += torch.stack([number.double() for number in numbers])
    weights.world.sum_([sums])
    loss, weight, *measured = sums.tolist()
    loss /= weight
    if objective is None:
        return {"loss": loss, "perplexity": math.exp(loss) if loss < LARGEST else math.inf}
    return {"loss": loss, **{name: value / weight for name, value in zip(metrics, measured, strict=True)}}


def _scored(policy: ModelPolicy, batch: Batch) -> Loss:
    return Loss(policy.nll(batch), batch.weight.sum())
