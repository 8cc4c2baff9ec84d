"""The pieces of policy gradients, as pure functions of tensors with one number for each of the N scored places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from sartor.tokens.batch import Batch


def clipped(logp: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """[N] -min(r A, clip(r, 1 - c, 1 + c) A) with r = exp(logp - old): Schulman et al. 2017 (arXiv:1707.06347), equation 7."""
    ratio = (logp - old).exp()
    return -(ratio * advantage).minimum(ratio.clamp(1 - clip, 1 + clip) * advantage)


def clipped_values(value: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: float) -> torch.Tensor:
    """[N] 1/2 max((V - R)^2, (old + clip(V - old, -c, c) - R)^2), as in the code of the same paper."""
    bounded = old + (value - old).clamp(-clip, clip)
    return 0.5 * (value - returns).square().maximum((bounded - returns).square())


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """[N, V] -> [N] entropy of each distribution, in nats."""
    logp = logits.log_softmax(dim=1)
    return -(logp.exp() * logp).sum(dim=1)


def k3(logp: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """[N] exp(d) - 1 - d with d = other - logp, for tokens drawn from `logp`: an unbiased estimate of KL(logp || other).

    Never below 0, and of small variance (Schulman 2020, "Approximating KL divergence", the estimator k3).
    """
    difference = other - logp
    return difference.exp() - 1 - difference


def share(batch: Batch, mean: Literal["token", "answer"]) -> torch.Tensor:
    """[N] what each place counts: 1, or 1 / length so that every answer counts 1."""
    import torch

    if mean == "token":
        return torch.ones_like(batch.weight)
    counts = torch.bincount(batch.row, minlength=len(batch.rows))
    return 1.0 / counts[batch.row]


def moved(logp: torch.Tensor, old: torch.Tensor, clip: float) -> tuple[torch.Tensor, torch.Tensor]:
    """([N] k3 estimate of how far the policy has gone from the one that wrote the tokens, [N] 1 where the ratio is clipped)."""
    ratio = (logp - old).detach()
    return k3(old, logp.detach()), (ratio.exp() - 1).abs().gt(clip).to(logp.dtype)
