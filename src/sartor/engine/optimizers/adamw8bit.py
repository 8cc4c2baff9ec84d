"""AdamW whose two moments are kept in 8 bits, in blocks of 256 (Dettmers et al. 2022, "8-bit Optimizers").

Each block is divided by its largest value and rounded to a dynamic code; moments are computed in fp32 and rounded again after
every step (algorithm 1). Tensors under 4,096 numbers keep fp32 moments. Through bitsandbytes, chosen over torchao because it
needs no compiler, starts at once, and was twice as fast on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    import torch

NEEDS = ("bitsandbytes", "quant")
"""Library, and the extra that installs it."""
STATE_BYTES = 2 * (1 + 4 / 256)
"""Two bytes, and two fp32 scales for every 256."""
ELEMENTWISE = False


class Options(BaseOptions):
    """Settings of 8-bit AdamW."""

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
    return adamw, "AdamW's, which 8-bit moments leave as it is (Dettmers et al. 2022, section 3)"


def build(groups: Sequence[dict[str, Any]], options: Options, learning_rate: float) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW over parameter groups that carry their own weight_decay. Raises ModelError M160 without it."""
    from sartor.models.quantized import adamw_8bit

    return adamw_8bit(groups, learning_rate=learning_rate, betas=options.betas, eps=options.eps)
