"""Linear layers held in 8 bits: each row of the weight as whole numbers from -127 to 127, with a scale of its own in fp32.

    q = round(W / s),   s = max |W| of the row / 127,   y = x (s q)^T + b

Dettmers et al. 2022, "LLM.int8()", section 2 (absmax, by rows), of the weights alone: products are computed in the type of x, on
weights unpacked for one product and dropped again, also in the backward pass. So a row of a batch is answered the same in any
company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST = 127
"""Largest whole number; -128 is not used, so that signs are alike."""


@dataclass(frozen=True, slots=True)
class Scales:
    """What the numbers of a packed weight stand for; the same attribute of the weight in which bitsandbytes keeps its own."""

    rows: torch.Tensor
    """[out, 1] fp32"""
    dtype: torch.dtype
    """Type of the unpacked weight."""


def packed(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[out, in] -> (int8 of this shape, [out, 1] fp32 scales). A row of zeros has scale 1."""
    wide = weight.detach().float()
    scales = wide.abs().amax(dim=1, keepdim=True) / MOST
    scales = torch.where(scales > 0, scales, 1.0)
    return (wide / scales).round().clamp(-MOST, MOST).to(torch.int8), scales


def unpacked(weight: torch.Tensor, scales: Scales) -> torch.Tensor:
    """[out, in] in the type of products."""
    return weight.float().mul_(scales.rows).to(scales.dtype)


class RowLinear(torch.nn.Linear):
    """An `nn.Linear` that is held still, in 8 bits."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, device: str) -> None:
        torch.nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        numbers, scales = packed(weight)
        self.weight = torch.nn.Parameter(numbers.to(device), requires_grad=False)
        self.weight.quant_state = Scales(scales.to(device), weight.dtype)  # type: ignore[attr-defined]
        held = None if bias is None else torch.nn.Parameter(bias.detach().to(device), requires_grad=False)
        self.register_parameter("bias", held)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        made: torch.Tensor = _Product.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return made


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Any, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.weight = weight
        return torch.nn.functional.linear(x, unpacked(weight.data, weight.quant_state), bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        return grads[0] @ unpacked(ctx.weight.data, ctx.weight.quant_state), None, None


def hold(model: PreTrainedModel, *, device: str, left_out: Sequence[str] = ()) -> None:
    """Put every linear layer but the output head and the modules `left_out` into 8 bits on `device`, one after the other."""
    head = model.get_output_embeddings()
    chosen = [
        name
        for name, part in model.named_modules()
        if (isinstance(part, torch.nn.Linear) or type(part).__name__ == "Conv1D")
        and part is not head
        and not any(name == other or name.startswith(f"{other}.") for other in left_out)
    ]
    for name in chosen:
        part: Any = model.get_submodule(name)
        weight = part.weight if isinstance(part, torch.nn.Linear) else part.weight.T
        model.set_submodule(name, RowLinear(weight, part.bias, device))
