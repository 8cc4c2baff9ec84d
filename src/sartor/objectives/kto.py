"""Kahneman-Tversky optimisation: minimise w (1 - sigmoid(s beta (log r - z))), r = p(answer) / p_reference(answer).

Ethayarajh et al. 2024 (arXiv:2402.01306), equations 7 and 8; s and w are 1 and `desirable` for an answer that was liked, -1 and
`undesirable` for one that was not. z is how far the model has gone from the reference, estimated as in the paper: the mean of
log r over prompts with an answer that belongs to another row, 0 at least, without gradient.

z enters every row's loss, so it must not depend on how rows are packed: before each optimiser step the mismatched answers of all
rows of the step, over all micro-batches and ranks, are asked together (`flow/mismatched.py`), and z stands in the batch. The
answer that a row is mismatched with is the next one in the data that says something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.objectives._answers import (
    KL,
    Positive,
    Referenced,
    answer_lengths,
    answer_logp,
    answer_mean,
    reference_logp,
)
from sartor.protocols import Loss, Policy, Traits

if TYPE_CHECKING:
    from sartor.tokens.batch import Batch


class Options(Referenced):
    """Settings of KTO."""

    desirable: Positive = 1.0
    """Weight of answers that were liked; best so that weight times rows is about equal on both sides."""
    undesirable: Positive = 1.0
    """Weight of answers that were not liked."""


RATE = 0.1
"""Share of the learning rate of sft that it bears."""
TRAITS = Traits(
    rows=frozenset({"judged", "preference"}),
    reads="candidates",
    learns="rows",
    roles=frozenset({"reference"}),
    metrics=("reward", "gain", "logp", "drift", "kl"),
)


def loss(policy: Policy, batch: Batch, options: Options, *, reference: Policy | None = None) -> Loss:
    """Sum over answers; those of a pair count each. `reference` may be missing where the batch holds its log-probabilities.

    Of the metrics, `reward` is beta log r, `gain` its value with the sign of the verdict, `logp` per token, `drift` the
    reference's log-probability per token less the model's.
    """
    logp, known, lengths = answer_logp(policy, batch), reference_logp(reference, batch), answer_lengths(batch)
    liked = batch.labels[:, 0] > 0
    sign = liked.to(logp.dtype) * 2 - 1
    weight = batch.scale * (liked * options.desirable + ~liked * options.undesirable)
    kl = answer_mean(batch, batch.columns[KL])
    reward = options.beta * (logp - known)
    total = (weight * (1 - (sign * (reward - options.beta * kl)).sigmoid())).sum()
    told = {
        "reward": reward,
        "gain": sign * reward,
        "logp": logp / lengths,
        "drift": (known - logp) / lengths,
        "kl": kl,
    }
    return Loss(total, batch.scale.sum(), {name: (batch.scale * each.detach()).sum() for name, each in told.items()})
