"""8 and 4 bits: the packing against the library that reads it, rounding against its bound, sizes, and what is kept whole."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import exported
import job
import pytest
import torch
from safetensors.torch import load_file, save_file

from sartor.export.packed import packed, rounded

NEEDS = pytest.mark.skipif(
    find_spec("compressed_tensors") is None, reason="compressed-tensors is not installed (extra quant)"
)


def weight(rows: int = 6, width: int = 64) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 32)])
def test_rounding_is_within_half_a_step(bits: int, group: int | None) -> None:
    values, scales = rounded(weight(), bits, group)
    assert int(values.max()) <= 2 ** (bits - 1) - 1
    assert int(values.min()) >= -(2 ** (bits - 1))
    parts = weight().reshape(6, -1, group or 64)
    back = values.float().reshape(parts.shape) * scales[:, :, None]
    inside = parts.abs() < scales[:, :, None] * (2 ** (bits - 1) - 1)
    assert bool(((back - parts).abs() <= scales[:, :, None] / 2 + 1e-6)[inside].all())


def test_four_bits_are_clipped_where_that_is_better() -> None:
    values, scales = rounded(weight(), 4, 32)
    plain = weight().reshape(6, -1, 32).abs().amax(dim=2) / 7
    naive = (weight().reshape(6, -1, 32) / plain[:, :, None]).round().clamp(-8, 7) * plain[:, :, None]
    ours = values.float().reshape(6, -1, 32) * scales[:, :, None]
    error, before = ((made - weight().reshape(6, -1, 32)).square().sum() for made in (ours, naive))
    assert error < 0.98 * before


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [64, 20])
def test_values_are_unpacked_again(bits: int, width: int) -> None:
    values, _ = rounded(weight(3, width), bits, None)
    words = packed(values, bits).to(torch.int64) % 2**32
    fields = (words[:, :, None] >> torch.arange(0, 32, bits)) % 2**bits - 2 ** (bits - 1)
    assert torch.equal(fields.reshape(3, -1)[:, :width].to(torch.int8), values)


@NEEDS
@pytest.mark.parametrize("bits", [4, 8])
def test_the_library_packs_alike(bits: int) -> None:
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    values, _ = rounded(weight(), bits, None)
    assert torch.equal(packed(values, bits), pack_to_int32(values, bits))


@NEEDS
@pytest.mark.parametrize(("name", "share"), [("int8", 0.30), ("int4", 0.20)])
def test_layers_are_small_and_the_rest_is_whole(name: str, share: float, tmp_path: Path) -> None:
    given = exported.subject(exported.adapter(job.save_model(tmp_path / "base"), tmp_path / "tuned"))
    folder = exported.made(name, given, tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    layers = sum(t.nbytes for key, t in tensors.items() if "weight_packed" in key or "weight_scale" in key)
    whole = load_file(tmp_path / "base" / "model.safetensors")
    before = sum(tensor.nbytes for key, tensor in whole.items() if "proj" in key)
    assert layers < share * before
    assert torch.equal(tensors["model.norm.weight"], whole["model.norm.weight"])
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["ignore"] == ["lm_head"]


@NEEDS
def test_a_wrong_scale_is_seen(tmp_path: Path) -> None:
    given = exported.subject(job.save_model(tmp_path / "base"))
    folder = exported.made("int8", given, tmp_path / "out")
    tensors = load_file(folder / "model.safetensors")
    for key in tensors:
        if key.endswith("weight_scale"):
            tensors[key] *= 2
    save_file(tensors, folder / "model.safetensors")
    assert "logits" in exported.failing(exported.certified("int8", given, folder))
