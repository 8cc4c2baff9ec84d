"""The loss of methods without values and without a term for the reference: the clipped surrogate alone, a mean over tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.objectives._rounds import Rounds
from sartor.objectives._surrogate import clipped, k3, moved
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

TRAITS = Traits(
    rows=frozenset({"example", "prompt"}),
    reads="prompt",
    learns="rows",
    roles=frozenset({"reference"}),
    metrics=("policy_loss", "drift", "clipped", "kl"),
)


def loss(policy: Policy, batch: Batch, options: Rounds, **asked: Policy) -> Loss:
    """Sums over the N tokens of answers, divided by N. At the policy that wrote them the gradient is that of -A log p.

    Args:
        asked: further models; the source has asked them when the answers were written.
    """
    columns = batch.columns
    logp = policy.logp(batch)
    gain = clipped(logp, columns["logp"], columns["advantage"], options.clip)
    drift, out = moved(logp, columns["logp"], options.clip)
    kl = k3(logp, columns["reference"])
    metrics = {"policy_loss": gain, "drift": drift, "clipped": out, "kl": kl}
    total = gain.sum()
    weight = total.new_full((), float(len(gain)))
    return Loss(total, weight, {name: each.sum() for name, each in metrics.items()})
