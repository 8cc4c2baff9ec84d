"""Elastic weight consolidation: a weight is held the more, the more rows of an earlier task depend on it.

    strength/2 sum_j F_j (w_j - w0_j)^2          F_j = mean over rows of (d log p(row) / d w_j)^2

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", equation 3; F is the diagonal of the Fisher
information where the earlier task ended, which is where this training begins. log p is the sum over the learnt tokens of a row.
Departure: the rows' own answers are taken, not answers drawn from the model (the empirical Fisher).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    import torch

    from sartor.engine.precision import Masters
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Loss
    from sartor.tokens.batch import Batch, Rendered

BYTES = 8
"""Bytes of memory for each number that moves: where it began, and how much it matters."""


class Options(BaseOptions):
    """How strongly, and which rows say what matters."""

    data: Annotated[str, Field(min_length=1, examples=["earlier.jsonl"])]
    """Rows of the earlier task: a file, folder, glob or builtin:NAME."""
    rows: Annotated[int, Field(gt=0)] = 200
    """Rows used at most, a fixed sample."""
    strength: Annotated[float, Field(gt=0)] = 1.0
    """Factor of the penalty, which is added to the mean loss."""


def importance(policy: ModelPolicy, weights: Masters, rows: Sequence[Rendered]) -> Mapping[str, torch.Tensor]:
    """Name -> fp32 F of each master, or of the rows of it that this rank holds; one row at a time, shared out to the ranks."""
    import torch

    from sartor.tokens.batch import collate

    world = weights.world
    shares = 1 if weights.lockstep else world.size
    sums = {name: torch.zeros_like(master, requires_grad=False) for name, master in weights.masters.items()}
    policy.eval()
    for place in range(0 if shares == 1 else world.rank, len(rows), shares):
        weights.backward(weights.loss(_nll, policy, collate([rows[place]]).to(policy.device)).total)
        if weights.lockstep:
            weights.reduce(torch.zeros(1, device=policy.device))
        for name, master in weights.masters.items():
            if master.grad is not None:
                gradient = master.grad / (world.size if weights.lockstep else 1)
                sums[name].addcmul_(gradient, gradient)
        weights.clear()
    if shares > 1:
        world.sum_(list(sums.values()))
    return {name: total.div_(len(rows)) for name, total in sums.items()}


def _nll(policy: ModelPolicy, batch: Batch) -> Loss:
    from sartor.protocols import Loss

    return Loss(policy.nll(batch), batch.weight.sum())
