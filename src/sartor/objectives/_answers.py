"""Whole answers and pairs of them, as the objectives that compare see them. R: answers of the batch, P: pairs.

An answer's log-probability is the sum over its tokens; a token with a weight of its own counts by it, relative to the largest
of its answer. `Batch.scale` is what the answer counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.options import AUTO, Auto, Options

if TYPE_CHECKING:
    import torch

    from sartor.protocols import Policy
    from sartor.tokens.batch import Batch

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
REFERENCE = "reference"
"""Column of a batch: [N] float32, the log-probability of each target under the reference, where it was measured before."""
KL = "kl"
"""Column of a batch: [N] float32, all alike: how far the policy is from the reference, by mismatched answers of the step."""


class Referenced(Options):
    """Settings of an objective with a reference."""

    beta: Positive = 0.1
    """How closely the model stays to the one that training started from; smaller moves further."""
    precompute_reference: bool | Auto = AUTO
    """Measure the reference's log-probabilities once, before the first step, and keep them in the stage folder: no second
    model is in memory then. auto: where every row is taken at least once."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every two answers of one prompt of which one is better."""

    better: torch.Tensor
    """[P] int64, row of the batch."""
    worse: torch.Tensor
    """[P] int64, row of the batch."""
    share: torch.Tensor
    """[P] float32, what each pair counts: those of one prompt count together what the prompt does."""

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """[P] -> [] the sum of what each pair counts times its value."""
        return (self.share * values).sum()


def pairs(batch: Batch) -> Pairs:
    """The pairs of a batch, by `labels[:, 0]`; equally good answers give none."""
    import torch

    score, group = batch.labels[:, 0], batch.group
    apart = (group[:, None] == group[None, :]) & (score[:, None] > score[None, :])
    better, worse = apart.nonzero(as_tuple=True)
    counts = torch.bincount(group[better], minlength=batch.groups)
    share = (batch.scale[better] + batch.scale[worse]) / 2 / counts[group[better]]
    return Pairs(better, worse, share)


def answer_logp(policy: Policy, batch: Batch) -> torch.Tensor:
    """[R] fp32 log-probability of each answer."""
    return _by_row(batch, policy.logp(batch))


def answer_lengths(batch: Batch) -> torch.Tensor:
    """[R] float32 tokens of each answer, 1 at least."""
    import torch

    return _by_row(batch, torch.ones_like(batch.weight)).clamp(min=1.0)


def reference_logp(reference: Policy | None, batch: Batch) -> torch.Tensor:
    """[R] fp32 log-probability of each answer under the reference: as measured before, or now. Raises ValueError without either."""
    if REFERENCE in batch.columns:
        return _by_row(batch, batch.columns[REFERENCE])
    if reference is None:
        raise ValueError("the reference has not been asked before, and is not here to be asked")
    return answer_logp(reference, batch).detach()


def answer_mean(batch: Batch, values: torch.Tensor) -> torch.Tensor:
    """[N] values of tokens -> [R] their means over each answer."""
    return _by_row(batch, values) / answer_lengths(batch)


def _by_row(batch: Batch, values: torch.Tensor) -> torch.Tensor:
    """[N] values of tokens -> [R] their sums over each answer."""
    counted = batch.weight / batch.scale[batch.row] * values
    return counted.new_zeros(len(batch.rows)).index_add(0, batch.row, counted)
