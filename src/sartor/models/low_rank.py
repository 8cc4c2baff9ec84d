"""LoRA's products joined with the large one: one pass over the output instead of four, forward and backward.

    y = x W^T + b + s (x A^T) B^T        g: gradient of y, h = x A^T, e = s g B
    dx = g W + e A,   dA = e^T x,   dB = s g^T h          (Hu et al. 2021, equation 3, differentiated)

W is frozen, so no gradient of it is made and x is kept for dA alone. Where W is held in four or eight bits it is unpacked for
each of its two products and dropped again.
"""

from __future__ import annotations

from typing import Any

import torch

from sartor.models.quantized import dequantised, is_packed


class _LowRank(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        flat = x.flatten(0, -2)
        inner = flat @ a.T
        out = torch.nn.functional.linear(flat, dequantised(weight), bias).addmm_(inner, b.T, alpha=scale)
        ctx.save_for_backward(flat, a, b, inner)
        ctx.weight, ctx.scale = weight, scale
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, a, b, inner = ctx.saved_tensors
        slope = grads[0].flatten(0, -2)
        narrow = (slope @ b).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = torch.mm(slope, dequantised(ctx.weight)).addmm_(narrow, a).view(*grads[0].shape[:-1], -1)
        to_a = narrow.T @ flat if ctx.needs_input_grad[3] else None
        to_b = (slope.T @ inner).mul_(ctx.scale) if ctx.needs_input_grad[4] else None
        return to_x, None, None, to_a, to_b, None


def low_rank(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scale: float
) -> torch.Tensor:
    """[..., in], [out, in], [out] or None, [r, in], [out, r] -> [..., out]; `weight` and `bias` are constants.

    `weight` may be packed, as bitsandbytes or rowwise.py holds it.
    """
    return _LowRank.apply(x, weight, bias, a, b, scale)  # type: ignore[no-any-return, no-untyped-call]


class FastLora:
    """Before PEFT's LoRA layer over a frozen `nn.Linear`; everything but the plain case goes on to PEFT's own forward."""

    def forward(self: Any, x: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        plan = None if rest or named else _plain_case(self, x)
        if plan is None:
            return super().forward(x, *rest, **named)  # type: ignore[misc, no-any-return]
        base = self.base_layer
        return low_rank(
            x, base.weight, base.bias, self.lora_A[plan].weight, self.lora_B[plan].weight, self.scaling[plan]
        )


def _plain_case(layer: Any, x: torch.Tensor) -> str | None:
    """The name of the one adapter in use, where nothing is special about it."""
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1 or torch.compiler.is_compiling():
        return None
    name: str = layer.active_adapters[0]
    if name not in layer.lora_A or name in layer.lora_variant:
        return None
    if layer.training and not isinstance(layer.lora_dropout[name], torch.nn.Identity):
        return None
    down, up, weight = layer.lora_A[name], layer.lora_B[name], layer.base_layer.weight
    kind = weight.dtype
    if is_packed(weight):
        if x.device.type != "cpu":
            return None
        kind = weight.quant_state.dtype
    if up.bias is not None or weight.requires_grad or {down.weight.dtype, kind} != {x.dtype}:
        return None
    return name


def join_products(model: torch.nn.Module) -> int:
    """Put `FastLora` before every LoRA layer of PEFT over a plain or a packed linear layer; returns how many.

    Packed ones take it on a CPU alone: on a GPU bitsandbytes has products of its own.
    """
    count = 0
    for module in model.modules():
        own = type(module)
        if own.__name__ not in ("Linear", "Linear4bit") or not hasattr(module, "lora_A"):
            continue
        base: Any = module.base_layer
        if type(base) is torch.nn.Linear or is_packed(base.weight):
            module.__class__ = type(f"Fast{own.__name__}", (FastLora, own), {})
            count += 1
    return count
