"""How far two distributions over the next token are apart, place by place, in fp32.

n: places, V: vocabulary. p is the teacher, q the student.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from sartor.protocols import Policy
    from sartor.tokens.batch import Batch

Kind = Literal["forward", "reverse", "jensen_shannon"]
PLACES = 256
"""Scored places whose logits are held at once, of both models."""


def forward(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """[n, V] log-probabilities of both -> [n] KL(p | q) = sum p (log p - log q)."""
    return (p.exp() * (p - q)).sum(dim=1)


def reverse(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """[n, V] log-probabilities of both -> [n] KL(q | p)."""
    return forward(p, q)


def jensen_shannon(q: torch.Tensor, p: torch.Tensor, beta: float) -> torch.Tensor:
    """[n] beta KL(p | m) + (1 - beta) KL(q | m) with m = beta p + (1 - beta) q (Agarwal et al. 2023, equation 1)."""
    import math

    import torch

    middle = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    return beta * forward(middle, p) + (1 - beta) * forward(middle, q)


def between(kind: Kind, beta: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The divergence of a name."""
    if kind == "jensen_shannon":
        return lambda q, p: jensen_shannon(q, p, beta)
    return forward if kind == "forward" else reverse


def apart(
    policy: Policy,
    teacher: Policy,
    batch: Batch,
    by: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """([N] divergence of both at `temperature`, [N] the student's own log-probability of the target) at every scored place.

    Logits exist for some places at a time; the backward pass computes them again. Where one model has more rows than the other,
    which are padding that no token has, they are left out.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    own, known = policy.read(batch), teacher.read(batch)

    def part(q: torch.Tensor, p: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        student, taught = policy.words(q), teacher.words(p)
        common = min(student.shape[1], taught.shape[1])
        student, taught = student[:, :common], taught[:, :common]
        logp = student.gather(1, target[:, None])[:, 0] - student.logsumexp(dim=1)
        return torch.stack([by((student / temperature).log_softmax(1), (taught / temperature).log_softmax(1)), logp])

    size = PLACES
    places = [slice(start, start + size) for start in range(0, len(own), size)]
    if torch.is_grad_enabled():
        parts = [checkpoint(part, own[at], known[at], batch.target[at], use_reentrant=False) for at in places]
    else:
        parts = [part(own[at], known[at], batch.target[at]) for at in places]
    if not parts:
        nothing = own.float().sum(dim=-1)
        return nothing, nothing
    divergence, logp = torch.cat(parts, dim=1)
    return divergence, logp
