"""The numbers of an architecture that decide memory and time, from its config.json and the headers of its weight files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LAYER = re.compile(r"\.(\d+)\.")
TURNED = ("gpt2", "openai-gpt", "imagegpt")
"""Architectures whose linear layers are stored the other way round."""
LOOKING = re.compile(r"(^|\.)(vision|visual|image)[a-z_]*\.")
"""In the names of tensors of the part of a vision-text model that looks at pixels."""
NORM = re.compile(r"(norm|ln_\w+|layernorm)\w*\.weight$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder. Counts of parameters are of what is stored, so a tied head counts once."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_size: int
    tables: int
    """Parameters outside of the layers: embeddings of tokens and places, and the output head where it is not tied."""
    tied: bool
    gated: bool
    """Whether the feed-forward part multiplies a gate with what goes up."""
    activation: str
    dropout: float
    """Largest probability of the model's own dropout layers inside of attention."""
    norms: int
    """Norms of the hidden state in a layer."""
    centred: bool
    """Whether norms are LayerNorms, with a bias."""
    wide_norms: bool
    """Whether norms multiply by their weight in fp32, as Gemma's do."""
    head_norms: bool
    """Whether queries and keys have norms of their own."""
    linears: Mapping[str, tuple[int, int]]
    """Name of a kind of linear layer inside the layers -> (parameters, inputs + outputs), both summed over all layers."""
    stored_bytes: int = 0
    """Of the weight files."""
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Name -> shape of everything that is stored."""
    turned: bool = False
    """Whether linear layers are stored as [in, out], as GPT-2's are."""
    looking: int = 0
    """Parameters of the part that looks at pixels; `linears`, `norms` and `tables` leave it out."""

    @property
    def query(self) -> int:
        """Numbers of all query heads of a token."""
        return self.heads * self.head_size

    @property
    def key(self) -> int:
        """Numbers of all key heads of a token."""
        return self.kv_heads * self.head_size

    @property
    def linear(self) -> int:
        """Parameters of the linear layers inside the layers."""
        return sum(parameters for parameters, _ in self.linears.values())

    @property
    def head(self) -> int:
        """Parameters of the output head."""
        return self.vocabulary * self.hidden

    def low_rank(self, rank: int, targets: Iterable[str] | None = None) -> int:
        """Parameters of low-rank updates of the named kinds of linear layers; None: of all but the output head."""
        return sum(rank * (inputs + outputs) for _, inputs, outputs in self.matrices(targets))

    def matrices(self, targets: Iterable[str] | None = None) -> Iterator[tuple[str, int, int]]:
        """(path, inputs, outputs) of each linear layer inside the layers whose path ends in one of `targets`; None: of all."""
        wanted = None if targets is None else tuple(f".{name}" for name in targets)
        for name, sides in self.tensors.items():
            path = name.removesuffix(".weight")
            if path == name or len(sides) != 2 or min(sides) < 2 or not LAYER.search(name):
                continue
            if wanted is None or f".{path}".endswith(wanted):
                inputs, outputs = sides if self.turned else sides[::-1]
                yield path, inputs, outputs


def read(config: Mapping[str, Any], files: Iterable[Path]) -> Shape:
    """The shape of the model in a folder."""
    files = list(files)
    tensors: dict[str, tuple[int, ...]] = {}
    for file in files:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        tensors |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    return of(config, tensors, sum(file.stat().st_size for file in files))


def of(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]], stored_bytes: int = 0) -> Shape:
    """The shape of a model with this configuration and these tensors, by name."""
    every = tensors
    if "vision_config" in config:
        tensors = {name: shape for name, shape in every.items() if not LOOKING.search(name)}
    config = {**config, **config.get("text_config", {})}

    def first(*keys: str, default: int) -> int:
        return next((int(config[key]) for key in keys if isinstance(config.get(key), int)), default)

    hidden = first("hidden_size", "n_embd", "d_model", default=512)
    heads = first("num_attention_heads", "n_head", "num_heads", default=8)
    inside = {name: shape for name, shape in tensors.items() if LAYER.search(name)}
    indices = {int(found[1]) for name in inside if (found := LAYER.search(name))}
    layers = first("num_hidden_layers", "n_layer", "num_layers", default=len(indices) or 12)
    linears: dict[str, tuple[int, int]] = {}
    for name, shape in inside.items():
        if len(shape) >= 2 and min(shape) > 1 and name.endswith(".weight"):
            kind = name.split(".")[-2]
            parameters, sides = linears.get(kind, (0, 0))
            linears[kind] = parameters + math.prod(shape), sides + sum(shape[-2:])
    norms = [name for name, shape in inside.items() if len(shape) == 1 and NORM.search(name)]
    of_heads = [name for name in norms if re.search(r"\.(q|k|query|key)_(layer)?norm\.", name)]
    outside = {name: shape for name, shape in tensors.items() if name not in inside and len(shape) == 2}
    return Shape(
        parameters=sum(math.prod(shape) for shape in every.values()),
        looking=sum(math.prod(shape) for name, shape in every.items() if name not in tensors),
        layers=layers,
        hidden=hidden,
        intermediate=first("intermediate_size", "n_inner", "ffn_dim", "moe_intermediate_size", default=4 * hidden),
        vocabulary=first("vocab_size", default=32_000),
        heads=heads,
        kv_heads=first("num_key_value_heads", "num_kv_heads", default=heads),
        head_size=first("head_dim", default=hidden // heads),
        tables=sum(math.prod(shape) for shape in outside.values()),
        tied=not any("lm_head" in name or "embed_out" in name for name in outside),
        gated=any("gate" in kind or kind == "w3" for kind in linears),
        activation=str(
            config.get("hidden_act") or config.get("activation_function") or config.get("hidden_activation")
        ),
        dropout=max(float(config.get(key) or 0.0) for key in ("attn_pdrop", "attention_dropout")),
        norms=max(1, round((len(norms) - len(of_heads)) / max(1, len(indices)))),
        centred=any(name.removesuffix("weight") + "bias" in inside for name in norms),
        wide_norms=str(config.get("model_type", "")).startswith("gemma"),
        head_norms=bool(of_heads),
        linears=linears,
        stored_bytes=stored_bytes,
        tensors=dict(tensors),
        turned=config.get("model_type") in TURNED,
    )
