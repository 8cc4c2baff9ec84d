"""Odds ratio preference optimisation: minimise -log P(w) - beta log sigmoid(log odds(w) - log odds(l)), odds(y) = P(y) / (1 - P(y)).

Hong et al. 2024 (arXiv:2403.07691), equations 6 and 7, where beta is called lambda; log P(y) = log p(y) / |y| is the mean over the
tokens of the answer, w is the better and l the worse one. It learns from the better answer and tells the two apart at once, so it
needs neither a stage of sft before it nor a reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.objectives._answers import NotNegative, answer_lengths, answer_logp, pairs
from sartor.objectives._told import OF_PAIRS, of_pairs
from sartor.options import Options as Settings
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    import torch

    from sartor.tokens.batch import Batch


class Options(Settings):
    """Settings of ORPO."""

    beta: NotNegative = 0.1
    """Weight of telling the answers apart, against learning the better one."""


RATE = 0.5
"""Share of the learning rate of sft that it bears."""
TRAITS = Traits(
    rows=frozenset({"preference", "ranking"}),
    reads="candidates",
    learns="rows",
    metrics=(*OF_PAIRS, "sft_loss"),
)


def log_odds(mean: torch.Tensor) -> torch.Tensor:
    """[R] log(P / (1 - P)) given log P below 0; finite, with its gradient, also where P is nearly 1."""
    import torch

    bounded = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    return bounded - torch.log(-torch.expm1(bounded))


def loss(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Sum over rows of the mean over their pairs."""
    from torch.nn.functional import logsigmoid

    made, lengths = pairs(batch), answer_lengths(batch)
    logp = answer_logp(policy, batch)
    mean = logp / lengths
    odds = log_odds(mean)
    delta, sft = odds[made.better] - odds[made.worse], -mean[made.better]
    total = made.mean(sft - options.beta * logsigmoid(delta))
    told = {**of_pairs(made, delta, logp, lengths), "sft_loss": made.mean(sft.detach())}
    return Loss(total, made.share.sum(), told)
