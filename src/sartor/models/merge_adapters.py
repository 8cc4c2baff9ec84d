"""Adapters of one base and one rank merged as adapters: the rule is applied to the A of all of them, and to the B.

    A = rule(A_i, sign(w_i) sqrt(|w_i| s_i)),   B = rule(B_i, sqrt(|w_i| s_i)),   s_i = alpha_i / rank

as PEFT's `add_weighted_adapter` does; the result has the scale 1. B A then holds products B_i A_j of different adapters too, so
it is not the mean of the updates, which only a whole model can hold in the same rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from sartor.errors import ModelError, Problem
from sartor.models.merging import Rule, weighted
from sartor.models.quantization import Quantization
from sartor.models.weights import ADAPTER, DTYPES, adapter_settings, is_plain_lora, scale_of
from sartor.store.tensors import Stored, forms, write_each

if TYPE_CHECKING:
    from pathlib import Path

    from sartor.models.catalog import ModelFolder


class Adapters:
    """LoRA adapters that can be merged as such. Raises ModelError M194 with the first thing in the way."""

    def __init__(self, folders: Sequence[ModelFolder], rule: Rule) -> None:
        self.folders, self.rule = folders, rule
        self.settings = [adapter_settings(folder.path) for folder in folders]
        self.forms = forms(folders[0].path / ADAPTER)
        what = next(self._obstacles(), None)
        if what is not None:
            raise ModelError(Problem("M194", what, fix="leave out --as adapter: the result is a whole model then"))

    def _obstacles(self) -> Any:
        if self.rule.how == "slerp":
            yield "slerp turns whole models, not adapters"
        first = self.folders[0]
        for folder, settings in zip(self.folders, self.settings, strict=True):
            if folder.base is None:
                yield f"{folder.reference} is a whole model, not an adapter"
            elif not is_plain_lora(settings, folder.path):
                yield f"{folder.reference} is more than a plain LoRA adapter"
            elif folder.root.path != first.root.path:
                yield f"{folder.reference} has the base {folder.root.path}, {first.reference} has {first.root.path}"
            elif Quantization.of(folder) != Quantization.of(first):
                yield f"the base of {folder.reference} is held otherwise than that of {first.reference}"
            elif settings["r"] != self.settings[0]["r"]:
                yield f"{folder.reference} has rank {settings['r']}, {first.reference} has {self.settings[0]['r']}"
            else:
                found = forms(folder.path / ADAPTER)
                yield from (
                    f"{name} is not of one shape in {folder.reference} and {first.reference}"
                    for name in sorted(found.keys() | self.forms.keys())
                    if name not in found or name not in self.forms or found[name].shape != self.forms[name].shape
                )

    @property
    def config(self) -> dict[str, Any]:
        """adapter_config.json of the result."""
        first = self.settings[0]
        return {**first, "lora_alpha": first["r"], "use_rslora": False, "init_lora_weights": True}

    def write(self, path: Path) -> None:
        """Merge tensor by tensor into a file."""
        stored = [Stored(folder.path, ADAPTER.removesuffix(".safetensors")) for folder in self.folders]
        write_each(path, self.forms, lambda name: self._merged(name, stored))

    def _merged(self, name: str, stored: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
        tensors = [each[name].float() for each in stored]
        given = self.rule.weights
        if self.rule.how in ("linear", "average"):
            given = tuple(weight / sum(given) for weight in given)
        signed = name.endswith(".lora_A.weight")
        weights = tuple(
            math.sqrt(abs(weight) * scale_of(settings)) * (math.copysign(1.0, weight) if signed else 1.0)
            for weight, settings in zip(given, self.settings, strict=True)
        )
        if self.rule.how in ("linear", "average", "task"):
            made = weighted(tensors, weights)
        else:
            made = replace(self.rule, weights=weights).merge(name, tensors, torch.zeros_like(tensors[0]))
        return made.to(DTYPES[self.forms[name].dtype])
