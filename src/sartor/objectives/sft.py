"""Supervised fine-tuning: minimise -sum_n w_n log p(target_n | before), divided by sum_n w_n over the optimiser step.

n runs over the scored places of the batch: the answer's tokens and its end-of-turn. The prompt carries no loss. Label
smoothing after Szegedy et al. 2016, section 7; focal loss after Lin et al. 2017, equation 5, over tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.options import Options as BaseOptions
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

TRAITS = Traits(
    rows=frozenset({"example", "scored", "labelled"}), models=frozenset({"causal", "encoder_decoder", "vision"})
)


class Options(BaseOptions):
    """Changes to plain likelihood."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the probability that goes to all tokens alike. Above 0 the logits of all scored places are held at once."""
    focal_gamma: Annotated[float, Field(ge=0)] = 0.0
    """Tokens that are known well count less, by (1 - p)^gamma. 0: plain likelihood."""


def loss(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Weighted negative log-likelihood of the scored places."""
    from sartor.objectives._losses import focal, focal_cross_entropy

    if not options.label_smoothing and not options.focal_gamma:
        return Loss(total=policy.nll(batch), weight=batch.weight.sum())
    if options.label_smoothing:
        logits, smoothing, gamma = policy.logits(batch), options.label_smoothing, options.focal_gamma
        each = focal_cross_entropy(logits, batch.target, smoothing=smoothing, gamma=gamma)
    else:
        logp = policy.logp(batch)
        each = -focal(logp, options.focal_gamma) * logp
    return Loss(total=(batch.weight * each).sum(), weight=batch.weight.sum())
