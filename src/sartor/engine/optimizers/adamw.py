"""AdamW: Adam with weight decay applied to the weights, not to the gradient (Loshchilov and Hutter 2019, algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    import torch


STATE_BYTES = 8.0
"""Two moments in fp32."""
ELEMENTWISE = True


class Options(BaseOptions):
    """Settings of AdamW."""

    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Peak rate; auto follows the method and the size of the model."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay of matrices; biases and norms are never decayed."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decay of the running mean of the gradient and of its square."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the second moment."""


def learning_rate(adamw: float, options: Options) -> tuple[float, str]:
    """(peak rate, reason)."""
    return adamw, ""


def build(groups: Sequence[dict[str, Any]], options: Options, learning_rate: float) -> torch.optim.Optimizer:
    """torch's fused AdamW over parameter groups that carry their own weight_decay."""
    import torch

    return torch.optim.AdamW(list(groups), lr=learning_rate, betas=options.betas, eps=options.eps, fused=True)
