"""A tuned model drawn back towards its base: weights (1 - alpha) base + alpha tuned.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT), equation 1. alpha 0 is the base, 1 the tuned model, both
to the last bit. For a LoRA adapter that is its scale: W + alpha s B A, so that nothing has to be computed anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sartor.models.weights import Weights, adapter_settings, is_plain_lora

if TYPE_CHECKING:
    from sartor.models.base import ModelPolicy
    from sartor.models.catalog import ModelFolder


def scales(folder: ModelFolder) -> bool:
    """Whether the scale of the adapter does it."""
    return folder.base is not None and is_plain_lora(adapter_settings(folder.path), folder.path)


class Scaled:
    """A policy whose LoRA adapter is scaled."""

    def __init__(self, policy: ModelPolicy) -> None:
        self._layers = [part for part in policy.model.modules() if isinstance(getattr(part, "scaling", None), dict)]
        self._trained = [dict(layer.scaling) for layer in self._layers]

    def at(self, alpha: float) -> None:
        """Put the policy at `alpha`."""
        for layer, trained in zip(self._layers, self._trained, strict=True):
            scaling: Any = layer.scaling
            scaling.update({name: alpha * scale for name, scale in trained.items()})


class Between:
    """A policy whose weights lie between those of two models on disk, which are read anew each time, one tensor after the other."""

    def __init__(self, policy: ModelPolicy, base: Weights, tuned: Weights) -> None:
        self._policy, self._bare = policy, base.bare
        self._ends: tuple[Mapping[str, torch.Tensor], ...] = (base.tensors(), tuned.tensors())

    @torch.no_grad()
    def at(self, alpha: float) -> None:
        """Put the policy at `alpha`; computed in fp32, held in the type of the policy."""
        for name, parameter in self._policy.model.named_parameters():
            start, end = (tensors[self._bare(name)] for tensors in self._ends)
            parameter.copy_(torch.lerp(start, end, alpha))


def scaled_settings(folder: Path, alpha: float) -> dict[str, Any]:
    """adapter_config.json of a plain LoRA adapter at `alpha`."""
    settings = adapter_settings(folder)
    return {**settings, "lora_alpha": alpha * float(settings["lora_alpha"])}
