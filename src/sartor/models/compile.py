"""Compiles the decoder layers one by one, so that one compilation serves all of them."""

from __future__ import annotations

import torch

from sartor.models.base import ModelPolicy


def decoder_layers(policy: ModelPolicy) -> list[torch.nn.Module]:
    """The repeated blocks of the trunk: the longest list of modules of one class in it."""
    lists = [list(part) for part in policy.model.base_model.modules() if isinstance(part, torch.nn.ModuleList)]
    return max(lists, key=len, default=[])


def compile_layers(policy: ModelPolicy) -> int:
    """Compile every decoder layer for varying lengths; returns how many."""
    layers = decoder_layers(policy)
    for layer in layers:
        layer.compile(dynamic=True)
    return len(layers)
