"""Simple preference optimisation: minimise -log sigmoid(beta log p(w) / |w| - beta log p(l) / |l| - gamma).

Meng et al. 2024 (arXiv:2405.14734), equation 6; w is the better answer and l the worse one. The reward is what the model itself
finds likely per token, so there is no reference, and nothing that holds the model back but a small learning rate and `sft`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.objectives._answers import NotNegative, Positive, answer_lengths, answer_logp, pairs
from sartor.objectives._told import OF_PAIRS, of_pairs
from sartor.options import Options as Settings
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch


class Options(Settings):
    """Settings of SimPO."""

    beta: Positive = 2.0
    """Scale of the reward."""
    gamma: NotNegative = 1.0
    """By how much the better answer's reward is to exceed the other's; the paper finds about half of beta."""
    sft: NotNegative = 0.0
    """Weight of the better answer's own loss, per token; keeps it from growing less likely."""


RATE = 0.1
"""Share of the learning rate of sft that it bears."""
TRAITS = Traits(
    rows=frozenset({"preference", "ranking"}),
    reads="candidates",
    learns="rows",
    metrics=OF_PAIRS,
)


def loss(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Sum over rows of the mean over their pairs."""
    from torch.nn.functional import logsigmoid

    made, lengths = pairs(batch), answer_lengths(batch)
    logp = answer_logp(policy, batch)
    reward = options.beta * logp / lengths
    delta = reward[made.better] - reward[made.worse]
    each = -logsigmoid(delta - options.gamma)
    if options.sft:
        each = each - options.sft * (logp / lengths)[made.better]
    return Loss(made.mean(each), made.share.sum(), of_pairs(made, delta, logp, lengths))
