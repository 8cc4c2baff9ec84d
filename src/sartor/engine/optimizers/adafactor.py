"""Adafactor (Shazeer and Stern 2018, algorithms 4 to 6): second moments of a matrix as one row and one column.

With R_t and C_t the running row and column means of G_t^2, V_t = R_t C_t / mean(R_t), and U_t = G_t / sqrt(V_t), clipped to
root mean square d: X_t = X_(t-1) - max(eps, RMS(X_(t-1))) min(lr, 1 / sqrt(t)) U_t. There is no first moment; the rate is
relative to the size of the weights. Almost no state, for models whose moments would not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    import torch

STATE_BYTES = 0.0
"""A row and a column of a matrix; 4 bytes a parameter of a vector."""
TYPICAL_SIZE = 0.03
"""Root mean square of the weights of a transformer's matrices, by which a relative rate differs from an absolute one."""
LARGEST = 0.05
"""Largest relative step that is advised."""
ELEMENTWISE = False


class Options(BaseOptions):
    """Settings of Adafactor."""

    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Peak rate relative to the root mean square of each tensor; auto follows the method and the size of the model."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decay of matrices; biases and norms are never decayed."""
    beta2_decay: Annotated[float, Field(gt=0)] = 0.8
    """The second moment's decay at step t is 1 - t^-beta2_decay."""
    clip: Annotated[float, Field(ge=1)] = 1.0
    """Largest root mean square of an update before it is scaled (d)."""
    eps: Annotated[float, Field(gt=0)] = TYPICAL_SIZE
    """Least size of a tensor in the scale of its step. With the paper's 0.001, LoRA's B, which starts at zero, hardly moves."""


def learning_rate(adamw: float, options: Options) -> tuple[float, str]:
    """(peak rate, reason)."""
    rate = min(LARGEST, adamw / TYPICAL_SIZE)
    return rate, f"AdamW's relative to weights of size {TYPICAL_SIZE:g}, at most {LARGEST:g}"


def build(groups: Sequence[dict[str, Any]], options: Options, learning_rate: float) -> torch.optim.Optimizer:
    """torch's Adafactor over parameter groups that carry their own weight_decay."""
    import torch

    return torch.optim.Adafactor(
        list(groups),
        lr=learning_rate,
        beta2_decay=-options.beta2_decay,
        eps=(None, options.eps),
        d=options.clip,
    )
