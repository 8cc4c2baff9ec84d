"""From a model folder to a policy that has been probed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

from sartor.errors import ModelError, Problem
from sartor.models import liger
from sartor.models.attention import NAME
from sartor.models.catalog import ModelFolder
from sartor.models.fuse import fuse
from sartor.models.hf import DROPOUTS, load_causal
from sartor.models.policy import CausalPolicy, Exactness
from sartor.models.probe import LENGTHS, probe, sample
from sartor.models.quantization import Quantization
from sartor.tokens.batch import collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
) -> CausalPolicy:
    """Load a model or an adapter on its base, and measure which shortcuts are exact for it.

    `dropout` sets the probability of the model's own dropout layers; `kernels` allows the compiled ones on a CPU. Raises ModelError when weights are missing (M110),
    do not fit (M110), are not finite (M111), or when the model has no dropout to set (M112). `quantization` holds linear
    layers in 4 bits; an adapter that was trained so always is, and in no other `dtype` (M162).
    """
    root = folder.base or folder
    overrides = _dropout_overrides(root, dropout) if dropout else {}
    quantization = quantization or Quantization.of(folder)
    if quantization is None:
        model, wrong = load_causal(root.path, dtype=TORCH_DTYPE[dtype], attention="sdpa", overrides=overrides)
    else:
        model, wrong = _in_four_bits(folder, quantization, dtype, device, overrides)
    wrong = [entry for entry in wrong if not entry.startswith("missing") or not _tied(model, entry.split(" ", 1)[1])]
    if wrong:
        raise ModelError(
            Problem("M110", f"weights do not fit the configuration: {'; '.join(wrong[:5])}", file=str(root.path))
        )
    _check_finite(model.named_parameters() if quantization is None else stored_tensors(root), root)
    policy = policy_of(model, device=device, kernels=kernels)
    if folder.base is not None:
        from sartor.models.adapters import load_adapter

        load_adapter(policy, folder.path)
    return policy


def policy_of(model: PreTrainedModel, *, device: str = "cpu", kernels: bool = True) -> CausalPolicy:
    """A frozen policy over a model in memory: with kernels where they are exact, and probed."""
    model.to(device)
    model.set_attn_implementation(NAME)
    model.requires_grad_(False)
    policy = CausalPolicy(model, device=torch.device(device), exact=Exactness(packs=True))
    rows = sample(policy.vocabulary, LENGTHS)

    def run() -> object:
        return policy.hidden(collate(rows).to(policy.device))

    if kernels and policy.device.type == "cpu":
        policy.native, policy.computed_by = fuse(model, policy.bounds, run)
    elif kernels:
        policy.computed_by = liger.apply(model, run)
    policy.exact = probe(policy)
    return policy


def _in_four_bits(
    folder: ModelFolder, quantization: Quantization, dtype: Dtype, device: str, overrides: Mapping[str, Any]
) -> tuple[PreTrainedModel, list[str]]:
    from sartor.models.quantized import load_quantized

    if dtype != quantization.dtype:
        raise ModelError(
            Problem(
                "M162",
                f"the base of this model was quantised from {quantization.dtype}; from {dtype} it would be another model",
                file=str(folder.path),
                fix=f"dtype {quantization.dtype}, or auto",
            )
        )
    return load_quantized(folder.root.path, quantization, device=device, attention="sdpa", overrides=overrides)


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
