"""Any number of labels for each row: minimise -sum_r w_r sum_l [y_rl log p_rl + (1 - y_rl) log(1 - p_rl)] / k, p = sigmoid(score).

Binary cross entropy for each of k labels, divided by sum_r w_r over the optimiser step; focal loss after Lin et al. 2017,
equation 5. Which labels are given is decided by thresholds that are found on validation rows after training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

TRAITS = Traits(
    rows=frozenset({"labelled"}),
    reads="input",
    learns="rows",
    metrics=("right",),
    head="labels",
    models=frozenset({"causal", "encoder", "encoder_decoder"}),
)


class Options(BaseOptions):
    """Changes to plain binary cross entropy."""

    focal_gamma: Annotated[float, Field(ge=0)] = 0.0
    """Labels that are known well count less, by (1 - p)^gamma; 2 is usual where most labels are absent. 0: plain."""


def loss(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Weighted mean over labels of binary cross entropy. `right`: share of the decisions at 0.5 that are right."""
    from sartor.objectives._losses import binary

    scores = policy.score(batch)
    each = binary(scores, batch.labels, gamma=options.focal_gamma).mean(dim=1)
    right = ((scores.detach() > 0) == (batch.labels > 0.5)).float().mean(dim=1)
    metrics = {"right": (batch.scale * right).sum()}
    return Loss(total=(batch.scale * each).sum(), weight=batch.scale.sum(), metrics=metrics)
