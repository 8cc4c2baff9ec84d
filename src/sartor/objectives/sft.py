"""Supervised fine-tuning: minimise -sum_n w_n log p(target_n | before), divided by sum_n w_n over the optimiser step.

n runs over the scored places of the batch: the answer's tokens and its end-of-turn. The prompt carries no loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.options import NoOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

Options = NoOptions
TRAITS = Traits(rows=frozenset({"example"}))


def loss(policy: Policy, batch: Batch, options: NoOptions) -> Loss:
    """Weighted negative log-likelihood of the scored places."""
    return Loss(total=policy.nll(batch), weight=batch.weight.sum())
