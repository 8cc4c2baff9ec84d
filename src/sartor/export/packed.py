"""Linear layers in 8 or 4 bits, in the format of compressed-tensors that vLLM, SGLang and transformers read; plain safetensors.

    q = round(w / s) in [-2^(b-1), 2^(b-1) - 1],  s = c max|w| / (2^(b-1) - 1)  for a row, or for `group` numbers of a row

c is 1 for 8 bits; for 4 bits the one of `CLIPS` whose squared error is least, chosen for every group. Products stay in the type
of the other weights (W8A16, W4A16). Embeddings, norms and the output head are kept as they are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sartor.export.folder import INDEX, write_generation, write_json, write_text_files
from sartor.export.source import refused
from sartor.export.weights import CODES, FLOATING, stored_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sartor.export.source import Source
    from sartor.store.tensors import Form

CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
WORD = 32
"""Bits that values are packed into, the first value lowest."""


def rounded(weight: torch.Tensor, bits: int, group: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """[out, in] fp32 -> int8 values of the same shape, and fp32 scales [out, in / group], or [out, 1] for whole rows."""
    parts = weight.reshape(weight.shape[0], -1, group or weight.shape[1])
    top, best = 2 ** (bits - 1) - 1, torch.full(parts.shape[:2], float("inf"))
    largest = parts.abs().amax(dim=2).clamp_min(torch.finfo(torch.float32).tiny)
    values, scales = torch.empty_like(parts), torch.empty_like(largest)
    for clip in CLIPS if bits < 8 else CLIPS[:1]:
        scale = clip * largest / top
        made = (parts / scale[:, :, None]).round().clamp(-top - 1, top)
        error = (made * scale[:, :, None] - parts).square().sum(dim=2)
        better = error < best
        best = torch.where(better, error, best)
        values = torch.where(better[:, :, None], made, values)
        scales = torch.where(better, scale, scales)
    return values.reshape(weight.shape).to(torch.int8), scales


def packed(values: torch.Tensor, bits: int) -> torch.Tensor:
    """[out, in] int8 -> [out, in * bits / 32 rounded up] int32, values shifted to be positive."""
    count = WORD // bits
    moved = values.to(torch.int64) + 2 ** (bits - 1)
    moved = torch.nn.functional.pad(moved, (0, -values.shape[1] % count)).reshape(values.shape[0], -1, count)
    words = (moved << torch.arange(0, WORD, bits)).sum(dim=2)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def write_packed(source: Source, folder: Path, name: str, *, bits: int, group: int | None) -> dict[str, Any]:
    """A model folder with the weights of its linear layers in `bits`. Raises ModelError M201 where there are none to pack."""
    from sartor.models.weights import form_of, whole
    from sartor.store.tensors import Form, write_each

    dtype = stored_dtype(source)
    if dtype == "float16":
        dtype = "float32"
    wide: torch.dtype = getattr(torch, dtype)
    with tempfile.TemporaryDirectory(prefix="sartor-export-") as scratch:
        opened = whole(source.folder, Path(scratch))
        form = form_of(source.folder, opened)
        linear = _linear(opened.skeleton)
        layers = {layer for layer, width in linear.items() if group is None or width % group == 0}
        if not layers:
            what = "this model has no linear layers that could be packed" + (f" in groups of {group}" if group else "")
            raise refused(name, what, "--as merged, or gguf")
        tensors = opened.tensors()
        places: dict[str, str] = {}
        total = 0
        for file, held in form.files.items():
            made: dict[str, torch.Tensor] = {}
            wanted: dict[str, Form] = {}
            for key, one in held.items():
                bare = form.bare(key)
                if bare not in form.forms:
                    continue
                layer = bare.removesuffix(".weight")
                if layer in layers and bare.endswith(".weight"):
                    values, scales = rounded(tensors[bare], bits, group)
                    stem = key.removesuffix(".weight")
                    made |= {
                        f"{stem}.weight_packed": packed(values, bits),
                        f"{stem}.weight_scale": scales.to(wide),
                        f"{stem}.weight_shape": torch.tensor(values.shape, dtype=torch.int64),
                    }
                else:
                    wanted[key] = Form(CODES[dtype], one.shape) if one.dtype in FLOATING else one
            wanted |= {key: Form(_CODE[tensor.dtype], tuple(tensor.shape)) for key, tensor in made.items()}

            def tensor(key: str, made: dict[str, torch.Tensor] = made) -> torch.Tensor:
                if key in made:
                    return made[key]
                stored = tensors[form.bare(key)]
                return stored.to(wide) if stored.is_floating_point() else stored

            if wanted:
                write_each(folder / file.name, wanted, tensor)
                places |= dict.fromkeys(wanted, file.name)
                total += sum(one.bytes for one in wanted.values())
        if len(set(places.values())) > 1:
            write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
        config: dict[str, Any] = json.loads((form.root.path / "config.json").read_text(encoding="utf-8"))
        ignored = sorted(
            {*(_full(opened.skeleton, layer) for layer in linear.keys() - layers), *_heads(opened.skeleton)}
        )
    config.pop("torch_dtype", None)
    write_json(folder / "config.json", {**config, "dtype": dtype, "quantization_config": _scheme(bits, group, ignored)})
    write_text_files(source, folder, {"exported": {"as": name, "bits": bits, "group": group}, "quantization": None})
    write_generation(source, folder)
    return {"bits": bits, "group": group, "layers": len(layers), "kept": ignored, "reader": library()}


_CODE = {torch.int32: "I32", torch.int64: "I64", torch.float32: "F32", torch.bfloat16: "BF16"}


def library() -> str:
    """Name and version of what reads the format."""
    import compressed_tensors

    return f"compressed-tensors {compressed_tensors.__version__}"


def _linear(model: PreTrainedModel) -> dict[str, int]:
    """Bare name -> width of every linear layer but the output head."""
    head = model.get_output_embeddings()
    found = {
        name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part is not head
    }
    return {name.removeprefix(f"{model.base_model_prefix}."): part.in_features for name, part in found.items()}


def _heads(model: PreTrainedModel) -> Iterator[str]:
    head = model.get_output_embeddings()
    yield from (name for name, part in model.named_modules() if part is head)


def _full(model: PreTrainedModel, bare: str) -> str:
    prefix = f"{model.base_model_prefix}."
    full: str = next(name for name, _ in model.named_modules() if name.removeprefix(prefix) == bare)
    return full


def _scheme(bits: int, group: int | None, ignored: list[str]) -> dict[str, Any]:
    """quantization_config of config.json."""
    weights = {
        "num_bits": bits, "type": "int", "symmetric": True, "strategy": "group" if group else "channel",
        "group_size": group, "dynamic": False, "block_structure": None, "actorder": None, "observer": "minmax",
        "observer_kwargs": {},
    }  # fmt: skip
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights,
                "input_activations": None,
                "output_activations": None,
            }
        },
        "ignore": ignored,
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }
