"""From hidden states to log-probabilities without ever holding all logits.

N: scored places, H: hidden size, V: vocabulary. Both functions walk over the scored places in chunks; of a chunk's
[n, V] logits only what the gradient needs survives. `Shape` holds what some families do to logits after the product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from sartor.models.filler import compiled, lengthened, rounded
from sartor.models.native import ops

CHUNK_NUMBERS = 1 << 23
"""Logits held at once: 32 MiB in fp32."""
CHUNK_IN_PLACE = 1 << 25
"""Logits held at once where the kernel turns them into their gradient in place: 64 MiB in bf16."""


@dataclass(frozen=True, slots=True)
class Shape:
    """logits = softcap * tanh(scale * (h W^T + b) / softcap); softcap None leaves out the tanh."""

    scale: float = 1.0
    softcap: float | None = None

    @property
    def plain(self) -> bool:
        """Whether logits are the bare product."""
        return self.scale == 1.0 and self.softcap is None

    def __call__(self, product: torch.Tensor) -> torch.Tensor:
        """[n, V] products in any type -> [n, V] fp32 logits."""
        logits = product.float() * self.scale if self.scale != 1.0 else product.float()
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def _chunks(count: int, vocabulary: int, numbers: int = CHUNK_NUMBERS) -> list[slice]:
    size = rounded(numbers // vocabulary)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def head_logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, shape: Shape) -> torch.Tensor:
    """[N, H] -> [N, V] fp32 logits."""
    return shape(torch.nn.functional.linear(hidden, weight, bias))


def head_logp(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, target: torch.Tensor, shape: Shape
) -> torch.Tensor:
    """[N, H] hidden, [N] target -> [N] fp32 log-probabilities. The backward pass computes each chunk's logits again."""

    def logp(h: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        logits = head_logits(h, weight, bias, shape)
        return logits.gather(1, t[:, None])[:, 0] - logits.logsumexp(dim=1)

    if not torch.is_grad_enabled():
        parts = [logp(hidden[part], target[part]) for part in _chunks(len(target), len(weight))]
    else:
        parts = [
            checkpoint(logp, hidden[part], target[part], use_reentrant=False)
            for part in _chunks(len(target), len(weight))
        ]
    return torch.cat(parts) if parts else head_logits(hidden, weight, bias, shape).sum(dim=1)


def _plain(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[n] weighted losses and [n, V] their gradient."""
    own = logits.float()
    chosen = own.gather(1, target[:, None])[:, 0]
    top = own.amax(dim=1, keepdim=True)
    shares = own.sub_(top).exp_()
    norm = shares.sum(dim=1, keepdim=True)
    loss = weight * (norm[:, 0].log() + top[:, 0] - chosen)
    shares.mul_(weight[:, None] / norm)
    shares.scatter_add_(1, target[:, None], -weight[:, None])
    return loss, shares.to(logits.dtype)


def _in_place(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the compiled kernel, which turns the logits into their gradient."""
    return ops.nll_(logits, target, weight), logits


def _added(slope: torch.Tensor, h: torch.Tensor, summed: torch.Tensor | None) -> torch.Tensor:
    """[V, H] fp32: the gradient of the weight found in one more chunk, added to that of those before."""
    found = slope.T @ h
    return found.float() if summed is None else summed.add_(found)


class _HeadNll(torch.autograd.Function):
    """sum_n -w_n log softmax(h_n W^T)[t_n], its gradients made in the forward pass, chunk by chunk.

    d/dlogits = w_n (softmax - onehot); d/dh = d/dlogits W; d/dW = d/dlogits^T h, which stays in fp32. One backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        target: torch.Tensor,
        loss_weight: torch.Tensor,
        native: bool,
    ) -> torch.Tensor:
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight: torch.Tensor | None = None
        native = native and ops.fits(hidden, weight)
        add = ops.weight_gradient if native and ops.tiled(hidden, weight) else _added
        whole = lengthened if compiled(hidden.dtype, hidden.device) else torch.Tensor.contiguous
        for part in _chunks(len(target), len(weight), CHUNK_IN_PLACE if native else CHUNK_NUMBERS):
            h, wanted, counts = (whole(x[part]) for x in (hidden, target, loss_weight))
            logits = torch.nn.functional.linear(h, weight)
            loss, slope = (_in_place if native else _plain)(logits, wanted, counts)
            total += loss.sum()
            if grad_hidden is not None:
                grad_hidden[part] = torch.mm(slope, weight)[: part.stop - part.start]
            if need_weight:
                grad_weight = add(slope, h, grad_weight)
        if need_weight and grad_weight is None:
            grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        ctx.save_for_backward(*(tensor for tensor in (grad_hidden, grad_weight) if tensor is not None))
        ctx.have = need_hidden, need_weight
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (scale,) = grads
        saved = list(ctx.saved_tensors)
        grad_hidden = saved.pop(0) * scale if ctx.have[0] else None
        grad_weight = saved.pop(0).mul_(scale) if ctx.have[1] else None
        return grad_hidden, grad_weight, None, None, None


def head_nll(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    loss_weight: torch.Tensor,
    *,
    native: bool = False,
) -> torch.Tensor:
    """[N, H], [V, H], [N], [N] -> [] fp32 weighted sum of negative log-probabilities (plain head without bias).

    `native`: by the compiled kernel, where it takes these tensors.
    """
    return _HeadNll.apply(hidden, weight, target, loss_weight, native)  # type: ignore[no-any-return, no-untyped-call]
