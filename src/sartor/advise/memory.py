"""How much memory training will take, from the shape of the model. All sizes in bytes.

Fixed: compute weights, fp32 masters and gradients of what moves, two moments of Adam. Per token of a micro-batch: what the
backward pass needs of every layer. The factors were fitted with `benchmarks/memory.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PROCESS = 700 << 20
"""Python, torch and transformers themselves."""
HEAD = 3 * (32 << 20)
"""The chunk of logits, its exponentials and their rounding."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of an architecture that decide memory and speed."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


def parameters_on_disk(files: list[Path]) -> int:
    """Count of numbers in safetensors files, from their headers alone."""
    total = 0
    for file in files:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                size = 1
                for side in entry["shape"]:
                    size *= side
                total += size
    return total


def shape(config: Mapping[str, Any], files: list[Path]) -> Shape:
    """Read an architecture off a config.json and the weights beside it."""

    def first(*keys: str, default: int) -> int:
        return next((int(config[key]) for key in keys if isinstance(config.get(key), int)), default)

    hidden = first("hidden_size", "n_embd", "d_model", default=512)
    return Shape(
        parameters=parameters_on_disk(files),
        layers=first("num_hidden_layers", "n_layer", "num_layers", default=12),
        hidden=hidden,
        intermediate=first("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
        vocabulary=first("vocab_size", default=32_000),
    )


def lora_parameters(form: Shape, rank: int) -> int:
    """About how many parameters LoRA on every linear layer of a decoder adds."""
    attention = 4 * 2 * form.hidden
    feed_forward = 3 * (form.hidden + form.intermediate)
    return form.layers * rank * (attention + feed_forward)


def fixed_bytes(form: Shape, dtype: str, trainable: int) -> int:
    """What does not depend on the batch."""
    masters = 0 if dtype == "float32" else 4
    return PROCESS + HEAD + form.parameters * BYTES[dtype] + trainable * (BYTES[dtype] + 4 + 8 + masters)


def bytes_per_token(form: Shape, dtype: str, *, checkpointed: bool) -> int:
    """What one more token in a micro-batch costs."""
    if checkpointed:
        return BYTES[dtype] * form.hidden * (form.layers + 20) + BYTES[dtype] * 6 * form.intermediate
    layer = 18 * form.hidden + 6 * form.intermediate
    return BYTES[dtype] * form.layers * layer
