"""Group-relative policy optimisation: minimise -min(r A, clip(r) A) + kl * k3, A the reward against its group's.

Shao et al. 2024 (arXiv:2402.03300), equation 3: several answers to each prompt, A = (reward - mean) / deviation of the group
for all tokens of an answer, and the drift from the reference as the estimator k3 in the loss. `divide: false` and
`mean: token` are Dr. GRPO (Liu et al. 2025, arXiv:2503.20783) up to a factor that all tokens of a step share; `mean: token`
alone is the mean of DAPO (Yu et al. 2025, arXiv:2503.14476).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sartor.objectives._on_policy import TRAITS
from sartor.objectives._rounds import RATE, NotNegative, Rounds
from sartor.objectives._surrogate import clipped, k3, moved, share
from sartor.protocols import Credit, Loss, Policy

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch

__all__ = ["RATE", "TRAITS", "Options", "loss"]


class Options(Rounds):
    """Settings of GRPO."""

    samples: Annotated[int, Field(gt=1)] = 8
    """Answers to each prompt, which are compared with each other."""
    kl: NotNegative = 0.04
    """Weight of the drift from the model that training started from, in the loss."""
    divide: bool = True
    """Divide advantages by the deviation of the group."""
    mean: Literal["answer", "token"] = "answer"
    """answer: every answer counts the same; token: every token does."""

    @property
    def credit(self) -> Credit:
        return Credit("group", divide=self.divide)


def loss(policy: Policy, batch: Batch, options: Options, **asked: Policy) -> Loss:
    """Sums over answers (or tokens), divided by their number.

    Args:
        asked: further models; the source has asked them when the answers were written.
    """
    columns, counts = batch.columns, share(batch, options.mean)
    logp = policy.logp(batch)
    gain = clipped(logp, columns["logp"], columns["advantage"], options.clip)
    kl = k3(logp, columns["reference"])
    drift, out = moved(logp, columns["logp"], options.clip)
    metrics = {"policy_loss": gain, "drift": drift, "clipped": out, "kl": kl}
    total = (counts * (gain + options.kl * kl)).sum()
    return Loss(total, counts.sum(), {name: (counts * each).sum() for name, each in metrics.items()})
