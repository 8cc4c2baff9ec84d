"""What the objectives on pairs tell of a batch beside their loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from sartor.objectives._answers import Pairs

OF_PAIRS = ("accuracy", "margin", "chosen_logp", "rejected_logp")
"""accuracy: share of pairs whose better answer has the higher reward; margin: by how much; chosen_logp, rejected_logp:
log-probability per token, nats."""
OF_RATIOS = (*OF_PAIRS, "chosen_reward", "rejected_reward", "drift")
"""Rewards are beta times the log-ratio to the reference; drift is the reference's log-probability per token less the model's, on
both answers: an estimate of how far the model has gone, nats."""


def of_pairs(made: Pairs, delta: torch.Tensor, logp: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
    """Sums of `OF_PAIRS`; `delta` [P] is the difference of rewards, `logp` and `lengths` [R] are of whole answers."""
    per_token = (logp / lengths).detach()
    return {
        "accuracy": made.mean((delta > 0).to(delta.dtype)),
        "margin": made.mean(delta.detach()),
        "chosen_logp": made.mean(per_token[made.better]),
        "rejected_logp": made.mean(per_token[made.worse]),
    }


def of_ratios(
    made: Pairs, reward: torch.Tensor, logp: torch.Tensor, reference: torch.Tensor, lengths: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Sums of `OF_RATIOS`, given the reward [R] and both log-probabilities [R] of each answer."""
    reward, drift = reward.detach(), ((reference - logp) / lengths).detach()
    return {
        **of_pairs(made, reward[made.better] - reward[made.worse], logp, lengths),
        "chosen_reward": made.mean(reward[made.better]),
        "rejected_reward": made.mean(reward[made.worse]),
        "drift": made.mean((drift[made.better] + drift[made.worse]) / 2),
    }
