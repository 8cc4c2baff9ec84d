"""Norms and gated feed-forward blocks by the Triton kernels of Liger, on a GPU where the package is installed.

Liger's own functions for a loaded model also change classes of transformers for every other model of the process, and go by
the name of the architecture. Here its kernels are put before single modules, like those of `models/fuse.py`: only where
they give what the module gave. Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from sartor.models.fuse import Candidate, FastFeedForward, FastNorm, fast_classes, put_before, watch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LigerNorm(torch.nn.Module):
    """Before a module that is an RMSNorm over its last dimension."""

    weight: torch.Tensor
    _sartor_offset: float
    _sartor_eps: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]."""
        if not hidden_states.is_cuda or torch.compiler.is_compiling():
            return super().forward(hidden_states)  # type: ignore[no-any-return]
        from liger_kernel.transformers.functional import liger_rms_norm  # type: ignore[import-not-found]

        casting = "gemma" if self._sartor_offset else "llama"
        made: torch.Tensor = liger_rms_norm(
            hidden_states, self.weight, self._sartor_eps, self._sartor_offset, casting, in_place=False
        )
        return made


class LigerFeedForward(torch.nn.Module):
    """Before a module that is down(activation(gate(x)) * up(x))."""

    gate_proj: torch.nn.Module
    up_proj: torch.nn.Module
    down_proj: torch.nn.Module
    _sartor_activation: str

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]."""
        if not x.is_cuda or torch.compiler.is_compiling():
            return super().forward(x)  # type: ignore[no-any-return]
        from liger_kernel.transformers.functional import liger_geglu, liger_swiglu

        gated = liger_swiglu if self._sartor_activation == "silu" else liger_geglu
        made: torch.Tensor = self.down_proj(gated(self.gate_proj(x), self.up_proj(x)))
        return made


def missing(device: torch.device) -> str | None:
    """Why there are no such kernels for `device`, or None."""
    if device.type != "cuda":
        return f"Liger's kernels need a GPU, not {device.type}"
    if find_spec("liger_kernel") is None or find_spec("triton") is None:
        return "liger-kernel is not installed"
    return None


def apply(model: PreTrainedModel, run: Callable[[], object]) -> str:
    """Put Liger's kernels where they are exact; what was done, or why nothing was.

    `run` sends one batch through the model.
    """
    why = missing(next(model.parameters()).device)
    if why is not None:
        return f"plain PyTorch: {why}"
    done = put_before(watch(model, run), candidates)
    parts = [f"{done[kind]} {name}" for kind, name in _WORDS.items() if done[kind]]
    return f"Liger kernels for {', '.join(parts)}" if parts else "plain PyTorch: no kernel of Liger is exact here"


_WORDS = {LigerNorm: "norms", LigerFeedForward: "feed-forward blocks"}
_KINDS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {FastNorm: LigerNorm, FastFeedForward: LigerFeedForward}


def candidates(module: torch.nn.Module) -> Iterator[Candidate]:
    """(class, settings) that may fit a module."""
    for kind, settings in fast_classes(module, None):
        if kind in _KINDS:
            yield _KINDS[kind], settings
