"""Muon for hidden matrices, AdamW for the rest (Jordan et al. 2024; scaled as by Liu et al. 2025, arXiv 2502.16982).

M_t = mu M_(t-1) + (1 - mu) G_t; O_t is M_t (with Nesterov's look ahead) with all singular values brought near 1 by
Newton-Schulz iterations; X_t = X_(t-1) - lr (s O_t + lambda X_(t-1)). s = 0.2 sqrt(max(rows, columns)) gives the update the
root mean square that AdamW's has, so that one rate serves both (Liu et al., equation 4); s = sqrt(max(1, rows / columns)) is
Jordan's. Embeddings, output heads and vectors are moved by AdamW.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    import torch

STATE_BYTES = 4.0
"""One momentum in fp32."""
TABLE_STATE_BYTES = 8.0
"""Embeddings and output heads have AdamW's two moments."""
ORIGINAL_RATE = 0.02
ORIGINAL_SHARE = 3e-4 / ORIGINAL_RATE
"""Jordan's rates: 0.02 for hidden matrices, 3e-4 for what AdamW moves."""
ELEMENTWISE = False


class Options(BaseOptions):
    """Settings of Muon and of the AdamW beside it."""

    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Peak rate; auto is AdamW's with scaling match_adamw, 0.02 with original."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay of matrices; biases and norms are never decayed."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of the running mean of the gradient of hidden matrices."""
    nesterov: bool = True
    """Look ahead along the momentum."""
    newton_schulz_steps: Annotated[int, Field(ge=1, le=20)] = 5
    """Iterations that bring the singular values near 1."""
    scaling: Literal["match_adamw", "original"] = "match_adamw"
    """Size of an update: as large as AdamW's, so that AdamW's rates hold, or as in the first publication."""
    adamw_share: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Rate of what AdamW moves as a share of learning_rate; auto is 1 with scaling match_adamw, 0.015 with original."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """AdamW's decay of the running mean of the gradient and of its square."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's addition to the root of the second moment."""


def learning_rate(adamw: float, options: Options) -> tuple[float, str]:
    """(peak rate, reason)."""
    if options.scaling == "original":
        return ORIGINAL_RATE, "Jordan's rate for hidden matrices"
    return adamw, "AdamW's, which fits because updates are scaled to match (Liu et al. 2025, section 2.2)"


def build(groups: Sequence[dict[str, Any]], options: Options, learning_rate: float) -> torch.optim.Optimizer:
    """torch's Muon and AdamW as one optimiser over parameter groups that carry their own weight_decay."""
    import torch

    hidden: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for group in groups:
        for matrices, part in ((True, hidden), (False, rest)):
            tensors = [p for p in group["params"] if (p.ndim == 2 and not group["table"]) is matrices]
            if tensors:
                part.append({**group, "params": tensors})
    share = options.adamw_share
    if share == "auto":
        share = 1.0 if options.scaling == "match_adamw" else ORIGINAL_SHARE
    parts: list[torch.optim.Optimizer] = []
    if hidden:
        parts.append(
            torch.optim.Muon(
                hidden,
                lr=learning_rate,
                momentum=options.momentum,
                nesterov=options.nesterov,
                ns_steps=options.newton_schulz_steps,
                adjust_lr_fn="match_rms_adamw" if options.scaling == "match_adamw" else "original",
            )
        )
    if rest:
        rest = [{**group, "rate": group["rate"] * share} for group in rest]
        parts.append(torch.optim.AdamW(rest, lr=learning_rate, betas=options.betas, eps=options.eps, fused=True))
    optimizer: torch.optim.Optimizer = _kind()(parts)
    return optimizer


@cache
def _kind() -> Any:
    """The class, made where torch may be imported."""
    import torch

    class Together(torch.optim.Optimizer):
        """Several optimisers over different parameters as one: they share its groups and its state."""

        def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
            super().__init__([group for part in parts for group in part.param_groups], {})
            self.parts = list(parts)
            for part in self.parts:
                part.state = self.state

        def step(self, closure: Any = None) -> Any:
            """One step of each."""
            for part in self.parts:
                part.step()

    return Together
