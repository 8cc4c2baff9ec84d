"""Linear layers whose weights move, with the gradient of the weight by our kernel: summed and handed on in fp32.

y = x W^T + b        g: gradient of y        dx = g W,   dW = g^T x,   db = sum g

oneDNN takes twice as long for dW as for the two other products, because both of its factors lie across the sum
(`benchmarks/products.py`), and rounds it to bf16.
"""

from __future__ import annotations

from typing import Any

import torch

from sartor.models.native import ops

LEAST = 1024
"""Tokens from which on our kernel is faster than oneDNN's."""


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return torch.nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        slope, need = grads[0].flatten(0, -2), ctx.needs_input_grad
        to_x = torch.mm(slope, weight).view(x.shape) if need[0] else None
        to_weight = ops.weight_gradient(slope, x.flatten(0, -2)) if need[1] else None
        to_bias = slope.sum(dim=0) if need[2] else None
        return to_x, to_weight, to_bias


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """[..., I], [O, I], [O] or None, all bf16 -> [..., O]. The gradient of `weight` is fp32 where it may be (`grad_dtype`)."""
    return _Linear.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


class FastLinear(torch.nn.Linear):
    """Before an `nn.Linear`; everything but training its weight on many tokens, in bf16 on a CPU with tiles, goes on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., I] -> [..., O]."""
        trained = torch.is_grad_enabled() and self.weight.requires_grad and x.numel() >= LEAST * self.in_features
        if not (trained and ops.tiled(x, self.weight)):
            return super().forward(x)
        return linear(x, self.weight, self.bias)


def sum_gradients(model: torch.nn.Module) -> int:
    """Put `FastLinear` before every plain linear layer whose weight moves; returns how many."""
    plain = [part for part in model.modules() if type(part) is torch.nn.Linear and part.weight.requires_grad]
    for part in plain:
        part.__class__ = FastLinear
    return len(plain)
