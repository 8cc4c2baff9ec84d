"""Stochastic gradient descent with optional momentum (Sutskever et al. 2013); weight decay is the L2 penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    import torch


STATE_BYTES = 4.0
"""The momentum in fp32."""
ELEMENTWISE = True


class Options(BaseOptions):
    """Settings of SGD."""

    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Peak rate; auto follows the method and the size of the model."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty on matrices; biases and norms are never decayed."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the last update that is carried on."""
    nesterov: bool = False
    """Look ahead along the momentum (needs momentum above 0)."""


def learning_rate(adamw: float, options: Options) -> tuple[float, str]:
    """(peak rate, reason); it has nothing to do with AdamW's."""
    return 0.05, "a usual rate for SGD with momentum"


def build(groups: Sequence[dict[str, Any]], options: Options, learning_rate: float) -> torch.optim.Optimizer:
    """torch's fused SGD over parameter groups that carry their own weight_decay."""
    import torch

    return torch.optim.SGD(
        list(groups), lr=learning_rate, momentum=options.momentum, nesterov=options.nesterov, fused=True
    )
