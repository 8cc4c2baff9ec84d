"""A number for each row: minimise sum_r w_r (score_r - t_r)^2, divided by sum_r w_r over the optimiser step.

t is the row's number less the mean of the training rows, divided by their standard deviation; a prediction is scaled back.
Instead of the square: Huber's loss (1964) or the absolute difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

TRAITS = Traits(
    rows=frozenset({"scored"}),
    reads="input",
    learns="rows",
    metrics=("unexplained",),
    head="number",
    models=frozenset({"causal", "encoder", "encoder_decoder"}),
)


class Options(BaseOptions):
    """What a difference costs."""

    loss: Literal["mse", "huber", "mae"] = "mse"
    """mse: its square, aims at the mean; mae: its size, aims at the median; huber: square up to delta, size beyond."""
    delta: Annotated[float, Field(gt=0)] = 1.0
    """huber: from where on a difference counts by its size, in standard deviations of the training numbers."""


def loss(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Weighted loss of the rows' numbers. `unexplained`: mean square of the differences, as a share of the training variance."""
    from sartor.objectives._losses import absolute, huber, squared

    values, target = policy.score(batch)[:, 0], batch.labels[:, 0]
    square = squared(values, target)
    each = square
    if options.loss == "mae":
        each = absolute(values, target)
    elif options.loss == "huber":
        each = huber(values, target, delta=options.delta)
    metrics = {"unexplained": (batch.scale * square.detach()).sum()}
    return Loss(total=(batch.scale * each).sum(), weight=batch.scale.sum(), metrics=metrics)
