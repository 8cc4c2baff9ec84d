"""Losses of single rows or places as pure functions, all in fp32: what each of them adds to a sum.

R: rows or places, C: classes, k: labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


SURE = 1e-12
"""Smallest 1 - p of the focal loss: its slope has no end at 0 where gamma is below 1."""


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, *, smoothing: float = 0.0) -> torch.Tensor:
    """[R, C], [R] -> [R]: -(1 - s) log p(target) - s / C sum_c log p(c).

    Label smoothing after Szegedy et al. 2016, section 7, as torch's `cross_entropy(label_smoothing=s)` has it.
    """
    import torch

    return torch.nn.functional.cross_entropy(logits.float(), target, reduction="none", label_smoothing=smoothing)


def focal(logp: torch.Tensor, gamma: float) -> torch.Tensor:
    """[...] log-probability of what is right -> [...] how much it counts: (1 - p)^gamma.

    Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5 without alpha, for which `class_weights` stand.
    """
    return (-logp.float().expm1()).clamp(min=SURE) ** gamma


def focal_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, *, smoothing: float = 0.0, gamma: float = 0.0
) -> torch.Tensor:
    """[R, C], [R] -> [R] cross entropy times (1 - p(target))^gamma."""
    each = cross_entropy(logits, target, smoothing=smoothing)
    if not gamma:
        return each
    logp = logits.float().log_softmax(dim=1).gather(1, target[:, None])[:, 0]
    return focal(logp, gamma) * each


def binary(logits: torch.Tensor, target: torch.Tensor, *, gamma: float = 0.0) -> torch.Tensor:
    """[R, k], [R, k] of 0 and 1 -> [R, k] -log p of each label being there or not, times (1 - p)^gamma."""
    import torch

    each = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    return focal(-each, gamma) * each if gamma else each


def squared(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """[R], [R] -> [R] (v - t)^2."""
    return (values.float() - target) ** 2


def absolute(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """[R], [R] -> [R] |v - t|."""
    return (values.float() - target).abs()


def huber(values: torch.Tensor, target: torch.Tensor, *, delta: float) -> torch.Tensor:
    """[R], [R] -> [R]: d^2 / 2 for a difference d of at most delta, else delta (|d| - delta / 2). Huber 1964."""
    import torch

    return torch.nn.functional.huber_loss(values.float(), target, reduction="none", delta=delta)
