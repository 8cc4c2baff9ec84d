"""Identity preference optimisation: minimise (h - 1 / (2 beta))^2 with h = log r_w - log r_l, r = p(answer) / p_reference(answer).

Azar et al. 2023 (arXiv:2310.12036), equation 17, where beta is called tau. The square draws the log-ratios to a set distance,
where DPO drives them apart without end. The paper writes log-probabilities of whole answers; its authors and TRL take the mean
over the tokens of each answer, and so does `per_token`; without it the distance is that of sums, as the formula says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.objectives._answers import Referenced, answer_lengths, answer_logp, pairs, reference_logp
from sartor.objectives._told import OF_RATIOS, of_ratios
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch


class Options(Referenced):
    """Settings of IPO."""

    per_token: bool = True
    """Log-ratios as means over tokens; false: as sums."""


RATE = 0.1
"""Share of the learning rate of sft that it bears."""
TRAITS = Traits(
    rows=frozenset({"preference", "ranking"}),
    reads="candidates",
    learns="rows",
    roles=frozenset({"reference"}),
    metrics=OF_RATIOS,
)


def loss(policy: Policy, batch: Batch, options: Options, *, reference: Policy | None = None) -> Loss:
    """Sum over rows of the mean over their pairs. `reference` may be missing where the batch holds its log-probabilities."""
    made, lengths = pairs(batch), answer_lengths(batch)
    logp, known = answer_logp(policy, batch), reference_logp(reference, batch)
    ratio = (logp - known) / lengths if options.per_token else logp - known
    each = (ratio[made.better] - ratio[made.worse] - 1 / (2 * options.beta)).square()
    return Loss(made.mean(each), made.share.sum(), of_ratios(made, options.beta * ratio, logp, known, lengths))
