"""The only file that imports bitsandbytes: bases in 4 bits, optimiser states in 8. Bases in 8 bits are our own (rowwise.py)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from sartor.errors import ModelError, Problem
from sartor.models.hf import head_parts, load_model
from sartor.models.rowwise import RowLinear, Scales, hold, unpacked

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel

    from sartor.models.quantization import Quantization


@cache
def _bitsandbytes() -> Any:
    """The library. Raises ModelError M160 where it is not installed or cannot be loaded."""
    try:
        with _without_kernels_of_the_hub():
            import bitsandbytes

            return bitsandbytes
    except (ImportError, OSError) as fault:
        raise ModelError(
            Problem("M160", f"numbers of 4 and 8 bits need bitsandbytes ({fault})", fix='pip install "sartor[quant]"')
        ) from fault


@contextmanager
def _without_kernels_of_the_hub() -> Iterator[None]:
    """Imports within find no library `kernels`.

    On processors with native bfloat16, bitsandbytes uses it to download machine code and run it, just by being imported, and
    warns where it is not installed. It has its own code for the same product.
    """
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level, loaded = logger.level, sys.modules.get("kernels")
    logger.setLevel(logging.ERROR)
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        logger.setLevel(level)
        if loaded is None:
            del sys.modules["kernels"]
        else:
            sys.modules["kernels"] = loaded


def import_before_peft() -> None:
    """PEFT imports bitsandbytes wherever it is installed; this does it first, without what `kernels` would bring."""
    if find_spec("bitsandbytes") is not None:
        _bitsandbytes()


def load_quantized(
    folder: Path, config: PretrainedConfig, quantization: Quantization, *, device: str, **more: Any
) -> tuple[PreTrainedModel, list[str], list[str]]:
    """As `load_model`, with every linear layer but the output head in 4 bits, tensor by tensor as they are read, or in 8 bits, layer
    by layer once the model is read.

    `more`: the head and how it is made, as there. Raises ModelError M160 without bitsandbytes, which 8 bits do not need.
    """
    if quantization.kind == "int8":
        made = load_model(folder, config, dtype=getattr(torch, quantization.dtype), **more)
        hold(made[0], device=device, left_out=head_parts(folder, more["head"]) if more.get("head") else ())
        return made
    library = _bitsandbytes()
    settings = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": quantization.kind,
        "bnb_4bit_use_double_quant": quantization.double,
        "bnb_4bit_compute_dtype": quantization.dtype,
        **({"llm_int8_skip_modules": head_parts(folder, more["head"])} if more.get("head") else {}),
    }
    dtype: torch.dtype = getattr(torch, quantization.dtype)
    model, wrong, drawn = load_model(folder, config, dtype=dtype, quantization=settings, device=device, **more)
    for layer in model.modules():
        if isinstance(layer, library.nn.Linear4bit):
            _one_way_to_compute(layer)
    return model, wrong, drawn


def _one_way_to_compute(layer: Any) -> None:
    """Let a layer compute the same in evaluation and in training.

    On processors with native bfloat16, bitsandbytes 0.50 packs the weights anew in the first evaluation, with rounded scales.
    Results then differ from training, and a training step after it sends no gradient through the layer, without a word.
    """
    layer.support_avx512bf16_for_cpu = False


def is_packed(weight: torch.Tensor) -> bool:
    """Whether a weight is held in four or eight bits."""
    return getattr(weight, "quant_state", None) is not None


def dequantised(weight: torch.Tensor) -> torch.Tensor:
    """[out, in] in the type products are computed in; a weight that is not packed is given back."""
    state: Any = getattr(weight, "quant_state", None)
    if state is None:
        return weight
    if isinstance(state, Scales):
        return unpacked(weight.data, state)
    whole: torch.Tensor = _bitsandbytes().functional.dequantize_4bit(weight.data, state)
    return whole


def is_quantized(model: torch.nn.Module) -> bool:
    """Whether `load_quantized` made it."""
    return bool(getattr(model, "is_loaded_in_4bit", False)) or any(
        isinstance(part, RowLinear) for part in model.modules()
    )


def adamw_8bit(
    groups: Sequence[dict[str, Any]], *, learning_rate: float, betas: tuple[float, float], eps: float
) -> torch.optim.Optimizer:
    """AdamW with block-wise 8-bit moments (fp32 for tensors under 4,096 numbers). Raises ModelError M160."""
    made: torch.optim.Optimizer = _adamw_kind()(list(groups), lr=learning_rate, betas=betas, eps=eps)
    return made


@cache
def _adamw_kind() -> Any:
    """bitsandbytes' class with a state that can be saved as it is."""
    base = _bitsandbytes().optim.AdamW8bit
    codes = {"qmap1": "dynamic", "qmap2": "udynamic"}

    class AdamW8bit(base):  # type: ignore[misc, valid-type]
        """State is plain tensors of each parameter's own: the count of steps is one too, and the shared codes are left out."""

        def init_state(self, group: dict[str, Any], p: torch.Tensor, gindex: int, pindex: int) -> None:
            """Fresh moments."""
            super().init_state(group, p, gindex, pindex)
            self._keep(p)

        def update_step(self, group: dict[str, Any], p: torch.Tensor, gindex: int, pindex: int) -> None:
            """Move one parameter."""
            state = self.state[p]
            state["step"] = int(state["step"])
            if "absmax1" in state:
                for key, name in codes.items():
                    self.name2qmap[name] = self.name2qmap[name].to(p.device)
                    state[key] = self.name2qmap[name]
            super().update_step(group, p, gindex, pindex)
            self._keep(p)

        def _keep(self, p: torch.Tensor) -> None:
            state = self.state[p]
            state["step"] = torch.tensor(state["step"], dtype=torch.int64)
            for key in codes:
                state.pop(key, None)

    return AdamW8bit
