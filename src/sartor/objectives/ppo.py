"""Proximal policy optimisation: minimise -min(r A, clip(r) A) + value * V-loss - entropy * H, a sum over tokens of answers.

Schulman et al. 2017 (arXiv:1707.06347), equations 7 and 9; r is the probability of a token now over that when it was written,
A its advantage by generalised advantage estimation, V-loss the clipped square of value minus return. The reward pays for
drifting from the reference (Ziegler et al. 2019, arXiv:1909.08593, section 2.2), which `kl_target` adapts. With `ptx` the
likelihood of the data's own answers is added (Ouyang et al. 2022, arXiv:2203.02155, equation 2).

The source (`rollouts/source.py`) has the policy write the answers and puts, for each place, old log-probability, advantage,
old value and return beside the batch. A batch without them holds rows of the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.objectives._rounds import RATE, NotNegative, Penalised
from sartor.objectives._surrogate import clipped, clipped_values, entropy, k3, moved
from sartor.protocols import Credit, Loss, Policy, Traits

if TYPE_CHECKING:
    import torch

    from sartor.tokens.batch import Batch

__all__ = ["RATE", "TRAITS", "Options", "loss"]

Share = Annotated[float, Field(ge=0, le=1)]


class Options(Penalised):
    """Settings of PPO."""

    passes: Annotated[int, Field(gt=0)] = 4
    """Times that the answers of a round are learnt from before new ones are written."""
    value: NotNegative = 0.1
    """Weight of the value loss."""
    value_clip: Annotated[float, Field(gt=0)] = 0.2
    """How far a value may move from what it was before that gains nothing more."""
    entropy: NotNegative = 0.0
    """Weight of a bonus for undecided policies."""
    discount: Share = 1.0
    """gamma: what a reward counts one token earlier."""
    trace: Share = 0.95
    """lambda of generalised advantage estimation: 0 trusts the values, 1 the rewards."""
    whiten: bool = True
    """Advantages of a round with mean 0 and deviation 1."""
    ptx: NotNegative = 0.0
    """Weight of the likelihood of the data's own answers, which a step then holds as well."""

    @property
    def credit(self) -> Credit:
        return Credit("gae", discount=self.discount, trace=self.trace, whiten=self.whiten)


TRAITS = Traits(
    rows=frozenset({"example", "prompt"}),
    reads="prompt",
    learns="rows",
    roles=frozenset({"reference"}),
    metrics=("policy_loss", "value_loss", "entropy", "drift", "clipped", "kl", "ptx_loss"),
)


def loss(policy: Policy, batch: Batch, options: Options, **asked: Policy) -> Loss:
    """Sums over the N tokens of answers, divided by N.

    Args:
        asked: further models; the source has asked them when the answers were written.
    """
    if not batch.columns:
        return _of_the_data(policy, batch, options)
    columns = batch.columns
    if options.entropy:
        logits = policy.logits(batch)
        logp = logits.log_softmax(dim=1).gather(1, batch.target[:, None])[:, 0]
        value, spread = policy.values(batch), entropy(logits)
    else:
        logp, value = policy.logp_and_values(batch)
        spread = -logp.detach()
    gain = clipped(logp, columns["logp"], columns["advantage"], options.clip)
    error = clipped_values(value, columns["value"], columns["return"], options.value_clip)
    total = (gain + options.value * error - options.entropy * spread).sum()
    drift, out = moved(logp, columns["logp"], options.clip)
    metrics = {
        "policy_loss": gain.sum(),
        "value_loss": error.sum(),
        "entropy": spread.sum(),
        "drift": drift.sum(),
        "clipped": out.sum(),
        "kl": k3(logp, columns["reference"]).sum(),
        "ptx_loss": total.new_zeros(()),
    }
    return Loss(total, total.new_full((), float(len(gain))), metrics)


def _of_the_data(policy: Policy, batch: Batch, options: Options) -> Loss:
    """Negative log-likelihood of the data's answers; the source has scaled their weights to the divisor of the others."""
    nll = policy.nll(batch)
    nothing: dict[str, torch.Tensor] = dict.fromkeys(TRAITS.metrics, nll.new_zeros(()))
    return Loss(options.ptx * nll, nll.new_zeros(()), nothing | {"ptx_loss": nll})
