"""PiSSA's start of a low-rank update, with the base left as it is.

    y = W x + (B A - B0 A0) x        W = U S V^T,  B0 = U_r S_r^1/2,  A0 = S_r^1/2 V_r^T,  B and A begin as B0 and A0

Meng et al. 2024, "PiSSA", equations 2 to 4, keep W - B0 A0 in the place of W. Here B0 A0 is taken off beside it, in one product
of twice the rank, so that the base stays what it was to the last bit, whatever its type, and can still be asked alone. That
product is what is saved: an ordinary LoRA adapter of twice the rank on the original base, as PEFT's own conversion makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sartor.errors import ModelError, Problem
from sartor.models.adapters import PeftAdapter
from sartor.models.low_rank import low_rank

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy


class Principal:
    """Before PEFT's LoRA layer: the update counts from `start_A` and `start_B`, where it began. `start_B` has its sign turned."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        name = self._sartor_name
        if self.disable_adapters or name not in self.active_adapters:
            return super().forward(x)  # type: ignore[misc, no-any-return]
        a, b = joined(self, name)
        base = self.base_layer
        if torch.compiler.is_compiling():
            return base(x) + (x @ a.T) @ b.T  # type: ignore[no-any-return]
        weight = base.weight if isinstance(base, torch.nn.Linear) else base.weight.T
        return low_rank(x, weight, base.bias, a, b, 1.0)


def joined(layer: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """[2r, in] and [out, 2r]: the update and, taken off, its beginning."""
    a = torch.cat([layer.lora_A[name].weight, layer.start_A])
    return a, torch.cat([layer.lora_B[name].weight, layer.start_B], dim=1)


class PrincipalAdapter(PeftAdapter):
    """Implements `Adapter`; what it saves needs nothing of this file to be read."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """The update and its beginning as one of twice the rank, and the head where there is one."""
        held = {name: tensor for name, tensor in super().tensors().items() if ".start_" not in name}
        for path, layer in self.peft.named_modules():
            if isinstance(layer, Principal):
                held[f"{path}.lora_A.weight"], held[f"{path}.lora_B.weight"] = joined(layer, self.name)
        return {name: tensor.detach() for name, tensor in held.items()}

    def settings(self) -> Any:
        """Those of a LoRA adapter of twice the rank and the same scale."""
        made = super().settings()
        made.r, made.lora_alpha = 2 * made.r, 2 * made.lora_alpha
        return made


@torch.no_grad()
def begin(policy: ModelPolicy, adapter: PeftAdapter, rank: int, iterations: int) -> None:
    """Let every layer of a fresh LoRA adapter of scale 1 start from the `rank` largest components of its weight.

    `iterations` of the randomised decomposition of Halko et al. 2011; 0: the exact one. Raises ModelError M125 where a layer has fewer
    components.
    """
    layers = [(path, part) for path, part in policy.model.named_modules() if hasattr(part, "lora_A")]
    for path, layer in layers:
        _begin(path, layer, adapter.name, rank, iterations)
    policy.adapter = policy.adapters[adapter.name] = PrincipalAdapter(adapter.peft, adapter.name)


def _begin(path: str, layer: Any, name: str, rank: int, iterations: int) -> None:
    weight = layer.base_layer.weight
    whole = (weight if isinstance(layer.base_layer, torch.nn.Linear) else weight.T).float()
    if rank > min(whole.shape):
        what = f"rank is {rank}, but {path} has only {min(whole.shape)} components"
        raise ModelError(Problem("M125", what, fix=f"method.pissa.rank: {min(whole.shape)}, or other target_modules"))
    left, sizes, right = decomposed(whole, rank, iterations)
    root = sizes.sqrt()
    a, b = (root[:, None] * right).to(weight.dtype), (left * root).to(weight.dtype)
    layer.lora_A[name].weight.copy_(a)
    layer.lora_B[name].weight.copy_(b)
    layer.start_A = torch.nn.Parameter(a.clone(memory_format=torch.contiguous_format), requires_grad=False)
    layer.start_B = torch.nn.Parameter(b.neg().contiguous(), requires_grad=False)
    layer._sartor_name = name
    layer.__class__ = type(f"Principal{type(layer).__name__}", (Principal, type(layer)), {})


def decomposed(weight: torch.Tensor, rank: int, iterations: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[out, r], [r] and [r, in]: the largest components. What is drawn at random depends on nothing but the shape."""
    if not iterations:
        left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
        return left[:, :rank], sizes[:rank], right[:rank]
    with torch.random.fork_rng(devices=[weight.device] if weight.is_cuda else []):
        torch.manual_seed(0)
        left, sizes, right = torch.svd_lowrank(weight, rank, niter=iterations)
    return left, sizes, right.T
