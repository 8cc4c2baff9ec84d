"""From a model folder to a policy that has been probed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from sartor.errors import ModelError, Problem
from sartor.models import liger
from sartor.models.adapter import FIRST, OUTSIDE
from sartor.models.attention import NAME
from sartor.models.base import Exactness, ModelPolicy
from sartor.models.catalog import OWN_ADAPTER, ModelFolder
from sartor.models.encoder import EncoderPolicy, separator
from sartor.models.encoder_decoder import EncoderDecoderPolicy
from sartor.models.fuse import fuse
from sartor.models.grown import grow
from sartor.models.heads import HeadSpec
from sartor.models.hf import DROPOUTS, kind_in, kind_of, load_model, read_config, takes_head
from sartor.models.kinds import Kind
from sartor.models.policy import CausalPolicy
from sartor.models.probe import LENGTHS, probe, sample
from sartor.models.processor import Processor, processor_of
from sartor.models.quantization import Quantization
from sartor.models.quantized import is_quantized
from sartor.models.vision import VisionPolicy
from sartor.tokens.batch import collate
from sartor.tokens.growth import Growth

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Dtype = Literal["float32", "bfloat16"]
TORCH_DTYPE: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(
    folder: ModelFolder,
    *,
    dtype: Dtype = "float32",
    device: str = "cpu",
    dropout: float = 0.0,
    kernels: bool = True,
    quantization: Quantization | None = None,
    head: HeadSpec | None = None,
    growth: Growth | None = None,
    seed: int = 0,
) -> ModelPolicy:
    """Load a model or an adapter on its base, and measure which shortcuts are exact for it.

    Whether it is a decoder, an encoder or both is asked of its configuration. A folder that holds a head is opened with it.

    Args:
        dropout: the probability of the model's own dropout layers; 0 leaves them as they are.
        kernels: whether the compiled ones may be used on a CPU.
        quantization: holds linear layers in 4 bits; an adapter that was trained so always is, and in no other `dtype` (M162).
        head: what is to stand on the hidden states: a fresh one drawn from `seed`, or the folder's own where that is of the
            same kind with the same names.
        growth: tokens that the model is to have beside its own; those that the folder's was given it always has.

    Raises:
        ModelError: weights are missing or do not fit (M110), are not finite (M111); the model has no dropout to set (M112);
            transformers has no model of this architecture for text (M113), or none with such a head (M114).
    """
    root = folder.base or folder
    overrides = _dropout_overrides(root, dropout) if dropout else {}
    quantization = quantization or Quantization.of(folder)
    stored = HeadSpec.of(folder.path, {} if folder.base else folder.config)
    fresh = folder.base is not None or stored is None or (head is not None and not head.fits(stored))
    head = head or stored
    config = _checked(read_config(root.path, overrides, head), head, root)
    more: dict[str, Any] = {"head": head, "fresh": fresh and head is not None, "seed": seed}
    if quantization is None:
        model, wrong, drawn = load_model(root.path, config, dtype=TORCH_DTYPE[dtype], **more)
    else:
        _check_dtype(folder, quantization, dtype)
        from sartor.models.quantized import load_quantized

        model, wrong, drawn = load_quantized(root.path, config, quantization, device=device, **more)
    wrong = [entry for entry in wrong if not entry.startswith("missing") or not _tied(model, entry.split(" ", 1)[1])]
    if wrong:
        raise ModelError(
            Problem("M110", f"weights do not fit the configuration: {'; '.join(wrong[:5])}", file=str(root.path))
        )
    _check_finite(model.named_parameters() if quantization is None else stored_tensors(root), root)
    growth = growth or Growth.of(folder.path)
    if growth is not None and Growth.of(root.path) != growth:
        grow(model, growth)
    processor = processor_of(root.path) if kind_in(root.path, config) == "vision" else None
    policy = policy_of(
        model, device=device, kernels=kernels, head=head, fresh=_modules(drawn, model), processor=processor
    )
    if stored is not None and fresh and folder.base is None:
        note = f"the head of {stored.kind} that the model came with is left out; another is drawn anew"
        policy.exact = replace(policy.exact, notes=(*policy.exact.notes, note))
    if isinstance(policy, EncoderPolicy):
        policy.separator = separator(folder.path if (folder.path / "tokenizer.json").is_file() else root.path)
    policy.growth = growth
    if folder.base is not None:
        open_adapter(policy, folder)
    return policy


def open_adapter(policy: ModelPolicy, folder: ModelFolder, *, name: str = FIRST) -> None:
    """Put one more adapter of the policy's base on it, and use it; `policy.using(name)` switches to another one and back.

    Raises ModelError when it does not fit (M121), does nothing (M122), or cannot stand beside those that are there or on a base
    that is held otherwise than when it was trained (M124).
    """
    kind, quantization = _kind(folder), Quantization.of(folder)
    inside = {one.kind for one in policy.adapters.values()} - OUTSIDE
    what = None
    if inside and kind not in inside | OUTSIDE:
        what = f"this adapter is of kind {kind}, what is open is of kind {', '.join(inside)}"
    if (quantization is not None) != is_quantized(policy.model):
        what = f"this adapter was trained on a base {f'held in {quantization}' if quantization else 'as it is stored'}"
    if Growth.of(folder.path) != policy.growth or (policy.rows is not None and kind not in OUTSIDE):
        what = "this adapter has rows of its own for new tokens, or its base has others"
    if what is not None:
        raise ModelError(Problem("M124", what, file=str(folder.path), fix="open it on a base of its own"))
    if policy.adapter is not None:
        policy.adapter.off()
    if kind == "bottleneck":
        from sartor.models.bottleneck import load_bottleneck

        load_bottleneck(policy, folder.path, name=name)
    elif kind in OUTSIDE:
        from sartor.models.prompts import load_prompt

        load_prompt(policy, folder.path, name=name)
    else:
        from sartor.models.adapters import load_adapter

        load_adapter(policy, folder.path, name=name)


def _kind(folder: ModelFolder) -> str:
    """Of adapter, as its settings say."""
    if (folder.path / OWN_ADAPTER).exists():
        return "bottleneck"
    settings = json.loads((folder.path / "adapter_config.json").read_text(encoding="utf-8"))
    return str(settings.get("peft_type", "")).lower()


POLICIES: dict[Kind, type[ModelPolicy]] = {
    policy.kind: policy for policy in (CausalPolicy, EncoderPolicy, EncoderDecoderPolicy, VisionPolicy)
}


def policy_of(
    model: PreTrainedModel,
    *,
    device: str = "cpu",
    kernels: bool = True,
    head: HeadSpec | None = None,
    fresh: tuple[str, ...] = (),
    processor: Processor | None = None,
) -> ModelPolicy:
    """A frozen policy over a model in memory, whose head is `head`: with kernels where they are exact, and probed.

    `fresh` names modules of the trunk that belong to the head; `processor` makes pixels for a model that is to see.
    """
    kind = "vision" if processor is not None else kind_of(model.config)
    assert kind is not None
    model.to(device)
    model.requires_grad_(False)
    policy = POLICIES[kind](model, device=torch.device(device), exact=Exactness(packs=True), head=head)
    policy.fresh = fresh
    if isinstance(policy, VisionPolicy):
        policy.processor = processor
    if isinstance(policy, CausalPolicy):
        model.set_attn_implementation(NAME)
        _accelerate(policy, kernels=kernels)
    policy.exact = probe(policy)
    return policy


def _accelerate(policy: CausalPolicy, *, kernels: bool) -> None:
    rows = sample(policy.vocabulary, LENGTHS)

    def run() -> object:
        return policy.hidden(collate(rows).to(policy.device))

    if kernels and policy.device.type == "cpu":
        policy.native, policy.computed_by = fuse(policy.model, policy.bounds, run)
    elif kernels:
        policy.computed_by = liger.apply(policy.model, run)


def _checked(config: PretrainedConfig, head: HeadSpec | None, folder: ModelFolder) -> PretrainedConfig:
    """The configuration. Raises ModelError M113 or M114 where transformers has no model of it."""
    where = str(folder.path / "config.json")
    if kind_in(folder.path, config) is None:
        what = f"transformers has no language model of type {config.model_type}"
        raise ModelError(Problem("M113", what, file=where, fix="a model that reads and writes text"))
    if head is None and "Classification" in next(iter(folder.config.get("architectures") or ()), ""):
        what = "its head gives several numbers of one row, which no objective learns"
        raise ModelError(
            Problem("M114", what, file=where, fix="a model with a head of classes, labels, tags or one number")
        )
    if head is not None and not takes_head(config, head):
        what = f"transformers has no model of type {config.model_type} with a head for {_PLACES[head.place]}"
        raise ModelError(Problem("M114", what, file=where, fix="another base, or an objective that learns text"))
    return config


_PLACES = {"sequence": "whole rows", "tokens": "single tokens"}


def _modules(drawn: list[str], model: PreTrainedModel) -> tuple[str, ...]:
    """The parts of the trunk whose weights were drawn anew."""
    prefix = model.base_model_prefix
    return tuple(sorted({".".join(name.split(".")[:2]) for name in drawn if name.startswith(f"{prefix}.")}))


def _check_dtype(folder: ModelFolder, quantization: Quantization, dtype: Dtype) -> None:
    if dtype != quantization.dtype:
        raise ModelError(
            Problem(
                "M162",
                f"the base of this model was quantised from {quantization.dtype}; from {dtype} it would be another model",
                file=str(folder.path),
                fix=f"dtype {quantization.dtype}, or auto",
            )
        )


def stored_tensors(folder: ModelFolder) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the folder's files as it is stored, one at a time."""
    from safetensors import safe_open

    for path in folder.weight_files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, this is not a dictionary
                yield name, file.get_tensor(name)


def _tied(model: PreTrainedModel, name: str) -> bool:
    return name in (getattr(model, "_tied_weights_keys", None) or ()) and model.config.tie_word_embeddings


def _check_finite(tensors: Iterable[tuple[str, torch.Tensor]], folder: ModelFolder) -> None:
    for name, tensor in tensors:
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(Problem("M111", f"tensor {name} of the base model is not finite", file=str(folder.path)))


def _dropout_overrides(folder: ModelFolder, dropout: float) -> dict[str, float]:
    keys = [key for key in DROPOUTS if isinstance(folder.config.get(key), int | float)]
    if not keys:
        raise ModelError(
            Problem(
                "M112",
                f"train.dropout is {dropout:g}, but this architecture has no dropout layers",
                file=str(folder.path / "config.json"),
                fix="remove train.dropout; with method lora use method.lora.dropout",
            )
        )
    return dict.fromkeys(keys, dropout)
