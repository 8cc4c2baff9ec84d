"""Direct preference optimisation: minimise -log sigmoid(beta (log r_w - log r_l)), r = p(answer) / p_reference(answer).

Rafailov et al. 2023 (arXiv:2305.18290), equation 7; w is the better answer, l the worse one, log-probabilities are sums over
the answer. With `label_smoothing` e it is cDPO (Mitchell 2023): -(1 - e) log sigmoid(d) - e log sigmoid(-d), for data of which
a share e is the wrong way round. `per_token` divides each log-ratio by the answer's length, against longer answers. `sft` adds
-log p(w) / |w| (Pang et al. 2024, arXiv:2404.19733, equation 1), against both answers growing less likely.

Of a ranking every two answers of which one is better are a pair, and its pairs together count as one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.objectives._answers import (
    NotNegative,
    Referenced,
    answer_lengths,
    answer_logp,
    pairs,
    reference_logp,
)
from sartor.objectives._told import OF_RATIOS, of_ratios
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    import torch

    from sartor.tokens.batch import Batch


class Options(Referenced):
    """Settings of DPO."""

    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of pairs that are believed to be the wrong way round."""
    per_token: bool = False
    """Compare log-ratios per token, so that length alone earns nothing."""
    sft: NotNegative = 0.0
    """Weight of the better answer's own loss, per token; keeps it from growing less likely."""


RATE = 0.1
"""Share of the learning rate of sft that it bears."""
TRAITS = Traits(
    rows=frozenset({"preference", "ranking"}),
    reads="candidates",
    learns="rows",
    roles=frozenset({"reference"}),
    metrics=OF_RATIOS,
    models=frozenset({"causal", "vision"}),
)


def smoothed(delta: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """[P] -(1 - e) log sigmoid(delta) - e log sigmoid(-delta)."""
    from torch.nn.functional import logsigmoid

    return -(1 - label_smoothing) * logsigmoid(delta) - label_smoothing * logsigmoid(-delta)


def loss(policy: Policy, batch: Batch, options: Options, *, reference: Policy | None = None) -> Loss:
    """Sum over rows of the mean over their pairs. `reference` may be missing where the batch holds its log-probabilities."""
    made, lengths = pairs(batch), answer_lengths(batch)
    logp, known = answer_logp(policy, batch), reference_logp(reference, batch)
    ratio = (logp - known) / lengths if options.per_token else logp - known
    reward = options.beta * ratio
    each = smoothed(reward[made.better] - reward[made.worse], options.label_smoothing)
    if options.sft:
        each = each - options.sft * (logp / lengths)[made.better]
    return Loss(made.mean(each), made.share.sum(), of_ratios(made, reward, logp, known, lengths))
