"""Rules that make one tensor of the same tensor of several models. Pure, in fp32, one tensor at a time.

    linear   sum_i w_i t_i / sum_i w_i                                        (model soups, Wortsman et al. 2022)
    slerp    sin((1-s) O) / sin(O) a + sin(s O) / sin(O) b, O the angle between a and b      (Shoemake 1985, equation 1)
    task     b + sum_i w_i d_i, with d_i = t_i - b                            (task arithmetic, Ilharco et al. 2022)
    ties     b + mean of the w_i d_i whose sign wins                          (Yadav et al. 2023, algorithm 1)
    dare     b + sum_i w_i m_i d_i / density, m_i drawn with chance density   (Yu et al. 2023, equations 1 to 3)

t_i: the tensor of model i, b: that of their common base. Departure: TIES keeps the largest numbers of each tensor, the paper
those of the whole model; so a tensor needs no other one, as in PEFT.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

How = Literal["linear", "slerp", "ties", "dare", "task", "average"]
FROM_BASE: frozenset[str] = frozenset({"task", "ties", "dare"})
"""Rules that add differences to a base."""
SPARSE: frozenset[str] = frozenset({"ties", "dare"})
"""Rules that keep a share of the numbers of a difference."""
NEARLY_PARALLEL = 1 - 1e-6
"""Cosine from which an angle is too small to divide by its sine; the straight line is taken."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How tensors become one. `weights` are one for each model; linear, average and slerp take their shares of the sum."""

    how: How
    weights: tuple[float, ...]
    density: float = 1.0
    """Share of the numbers of each difference that ties and dare keep."""
    seed: int = 0
    """Of what dare draws; with the name of the tensor and the place of the model."""

    def merge(self, name: str, tensors: Sequence[torch.Tensor], base: torch.Tensor | None) -> torch.Tensor:
        """fp32 tensors of one shape -> one; `base` is needed by task, ties and dare."""
        if self.how in ("linear", "average"):
            return linear(tensors, self.weights)
        if self.how == "slerp":
            first, second = tensors
            return slerp(first, second, self.weights[1] / sum(self.weights))
        assert base is not None
        differences = [tensor - base for tensor in tensors]
        if self.how == "task":
            return base + weighted(differences, self.weights)
        if self.how == "ties":
            return base + ties(differences, self.weights, self.density)
        draws = [stream(self.seed, place, name) for place in range(len(tensors))]
        return base + dare(differences, self.weights, self.density, draws)


def linear(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The mean, weighted."""
    return weighted(tensors, [weight / sum(weights) for weight in weights])


def weighted(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """sum_i w_i t_i."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def slerp(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    """From `first` (share 0) to `second` (share 1) along the arc between their directions."""
    lengths = float(first.double().norm() * second.double().norm())
    cosine = float((first.double() * second.double()).sum()) / lengths if lengths else 1.0
    if abs(cosine) > NEARLY_PARALLEL:
        return torch.lerp(first, second, share)
    angle = math.acos(cosine)
    return weighted(
        [first, second], [math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)]
    )


def ties(differences: Sequence[torch.Tensor], weights: Sequence[float], density: float) -> torch.Tensor:
    """Keep the largest numbers of each, choose a sign for every place by the larger sum, average those that have it."""
    kept = torch.stack([largest(difference, density) for difference in differences])
    wins = torch.where(kept.sum(dim=0) >= 0, 1.0, -1.0)
    agrees = kept.sign() == wins
    scale = torch.tensor(weights, dtype=kept.dtype).view(-1, *[1] * differences[0].ndim)
    return (kept * scale * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)


def largest(tensor: torch.Tensor, density: float) -> torch.Tensor:
    """The tensor with all but the share `density` of its numbers that are largest in size set to zero; one stays at least."""
    flat = tensor.flatten()
    count = max(1, int(density * flat.numel()))
    kept = torch.zeros_like(flat)
    places = flat.abs().topk(count, sorted=False).indices
    kept[places] = flat[places]
    return kept.view_as(tensor)


def dare(
    differences: Sequence[torch.Tensor],
    weights: Sequence[float],
    density: float,
    draws: Sequence[torch.Generator],
) -> torch.Tensor:
    """Keep each number with chance `density` and divide what stays by it, so that the mean is unchanged; then add up."""
    thin = [
        difference * torch.bernoulli(torch.full_like(difference, density), generator=draw) / density
        for difference, draw in zip(differences, draws, strict=True)
    ]
    return weighted(thin, weights)


def stream(seed: int, place: int, name: str) -> torch.Generator:
    """Random numbers for one tensor of one model, whatever was drawn for others."""
    digest = hashlib.sha256(f"{seed}/{place}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
