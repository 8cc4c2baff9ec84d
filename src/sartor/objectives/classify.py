"""One label for each row: minimise -sum_r w_r log softmax(score_r)[label_r], divided by sum_r w_r over the optimiser step.

The scores [R, C] are those of a linear head on the model's last hidden states. `train.class_weights` gives w. Label smoothing
after Szegedy et al. 2016, section 7; focal loss after Lin et al. 2017, equation 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

TRAITS = Traits(
    rows=frozenset({"example"}),
    reads="input",
    learns="rows",
    metrics=("accuracy",),
    head="classes",
    models=frozenset({"causal", "encoder", "encoder_decoder"}),
)


class Options(BaseOptions):
    """Changes to plain cross entropy."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the probability that goes to all labels alike, against overconfidence; 0.1 is usual."""
    focal_gamma: Annotated[float, Field(ge=0)] = 0.0
    """Rows that are known well count less, by (1 - p)^gamma; 2 is usual where labels are rare. 0: plain cross entropy."""


def loss(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Weighted cross entropy of the rows' labels."""
    from sartor.objectives._losses import focal_cross_entropy

    scores, target = policy.score(batch), batch.labels[:, 0].long()
    each = focal_cross_entropy(scores, target, smoothing=options.label_smoothing, gamma=options.focal_gamma)
    right = (scores.detach().argmax(dim=1) == target).float()
    metrics = {"accuracy": (batch.scale * right).sum()}
    return Loss(total=(batch.scale * each).sum(), weight=batch.scale.sum(), metrics=metrics)
