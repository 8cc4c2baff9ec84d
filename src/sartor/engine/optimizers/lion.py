"""Lion: every weight moves by the rate, in the direction of a sign (Chen et al. 2023, "Symbolic Discovery", algorithm 2).

c_t = beta1 m_(t-1) + (1 - beta1) g_t; x_t = x_(t-1) - lr (sign(c_t) + lambda x_(t-1)); m_t = beta2 m_(t-1) + (1 - beta2) g_t.
Half the state of AdamW. These ten lines stand here because the libraries that have them bring more than they do:
bitsandbytes and pytorch-optimizer are large, lion-pytorch refuses a rate of zero and goes tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    import torch

STATE_BYTES = 4.0
"""One momentum in fp32."""
ELEMENTWISE = True


class Options(BaseOptions):
    """Settings of Lion."""

    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Peak rate; auto is a third of AdamW's."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.03
    """Decay of matrices, as much larger than AdamW's as the rate is smaller; biases and norms are never decayed."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    """Weight of the momentum in the direction of a step, and its decay."""


def learning_rate(adamw: float, options: Options) -> tuple[float, str]:
    """(peak rate, reason)."""
    return adamw / 3, "a third of AdamW's: 3 to 10 times less suits Lion, the most of it short runs (Chen et al. 2023)"


def build(groups: Sequence[dict[str, Any]], options: Options, learning_rate: float) -> torch.optim.Optimizer:
    """Lion over parameter groups that carry their own weight_decay."""
    optimizer: torch.optim.Optimizer = _kind()(list(groups), {"lr": learning_rate, "betas": options.betas})
    return optimizer


@cache
def _kind() -> Any:
    """The class, made where torch may be imported."""
    import torch

    class Lion(torch.optim.Optimizer):
        """Algorithm 2, all tensors of a group at once."""

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            """Move every parameter that has a gradient."""
            for group in self.param_groups:
                moving = [parameter for parameter in group["params"] if parameter.grad is not None]
                if not moving:
                    continue
                grads = [parameter.grad for parameter in moving]
                for parameter in moving:
                    if not self.state[parameter]:
                        self.state[parameter]["momentum"] = torch.zeros_like(parameter)
                momenta = [self.state[parameter]["momentum"] for parameter in moving]
                (beta1, beta2), rate = group["betas"], group["lr"]
                direction = torch._foreach_lerp(momenta, grads, 1 - beta1)
                torch._foreach_sign_(direction)
                torch._foreach_mul_(moving, 1 - rate * group["weight_decay"])
                torch._foreach_add_(moving, direction, alpha=-rate)
                torch._foreach_lerp_(momenta, grads, 1 - beta2)

    return Lion
