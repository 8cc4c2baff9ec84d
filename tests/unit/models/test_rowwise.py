"""Bases in eight bits: the numbers of a plain reference, the memory of one byte a parameter, merged onto what the bits stand for."""

from __future__ import annotations

from pathlib import Path

import job
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from sartor.errors import RecipeError
from sartor.flow import prepare as preparing
from sartor.flow.check import check
from sartor.flow.merge import merge
from sartor.flow.model import load as open_model
from sartor.methods import lora, qlora
from sartor.models.catalog import resolve
from sartor.models.heads import HeadSpec
from sartor.models.load import load
from sartor.models.policy import CausalPolicy
from sartor.models.quantized import dequantised, is_quantized
from sartor.models.rowwise import RowLinear, packed
from sartor.models.save import save_model
from sartor.tokens.batch import collate

ROWS = tiny.rows(6, seed=4)
INT8 = qlora.Options(quant_type="int8")


def attached(base: Path, dtype: str = "float32") -> CausalPolicy:
    """LoRA over int8 whose B is not zero."""
    policy = load(resolve(str(base), base), dtype=dtype, quantization=qlora.quantization(INT8, dtype))
    qlora.attach(policy, INT8, seed=3)
    with_b(policy)
    return policy


def with_b(policy: CausalPolicy) -> None:
    draw = torch.Generator().manual_seed(5)
    for name, parameter in policy.trainable().items():
        if ".lora_B." in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) / 10)


def gradients(policy: CausalPolicy) -> dict[str, torch.Tensor]:
    policy.eval()
    policy.model.zero_grad()
    policy.nll(collate(ROWS)).backward()
    return {name: parameter.grad.clone() for name, parameter in policy.trainable().items()}


def reference(weight: torch.Tensor) -> torch.Tensor:
    """Row by row, number by number."""
    made = torch.zeros_like(weight)
    for place, row in enumerate(weight.tolist()):
        most = max(map(abs, row))
        scale = torch.tensor(most) / 127 if most else torch.tensor(1.0)
        made[place] = torch.tensor([float(round(float(torch.tensor(x) / scale))) for x in row]) * scale
    return made


def test_rounding_is_that_of_a_plain_reference() -> None:
    weight = torch.randn(7, 33, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 3, 7)[:, None]
    weight[3] = 0
    layer = RowLinear(weight, None, "cpu")
    assert layer.weight.dtype == torch.int8
    torch.testing.assert_close(dequantised(layer.weight), reference(weight), rtol=0, atol=0)
    numbers, scales = packed(weight)
    assert int(numbers.max()) == 127
    assert bool(((dequantised(layer.weight) - weight).abs() <= 0.5001 * scales).all())


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "gemma3", "phi3"])
def test_it_computes_as_lora_on_the_dequantised_base(name: str, tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base", name)
    policy = attached(base)
    assert is_quantized(policy.model)
    tensors = load_file(base / "model.safetensors")
    rounded = 0
    for path, layer in policy.model.named_modules():
        if isinstance(layer, RowLinear):
            key = path.replace(".base_layer", "") + ".weight"
            weight = tensors[key] if name != "gpt2" else tensors[key].T
            tensors[key] = (reference(weight) if name != "gpt2" else reference(weight).T).contiguous()
            rounded += 1
    assert rounded >= 8
    folder = tmp_path / "plain"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text((base / "config.json").read_text())
    plain = load(resolve(str(folder), folder))
    lora.attach(plain, lora.Options(), seed=3)
    with torch.no_grad():
        started = policy.trainable()
        for key, parameter in plain.trainable().items():
            parameter.copy_(started[key])
    wanted, found = gradients(plain), gradients(policy)
    assert any(bool(tensor.any()) for key, tensor in wanted.items() if ".lora_A." in key)
    for key, tensor in wanted.items():
        scale = float(tensor.abs().max())
        assert float((found[key].reshape(tensor.shape) - tensor).abs().max()) <= 1e-3 * scale + 1e-6, key
    original = load(resolve(str(base), base))
    with torch.no_grad(), policy.reference() as quantised:
        away = (quantised.logp(collate(ROWS)) - original.logp(collate(ROWS))).abs().max()
    assert 1e-5 < float(away) < 0.5, "the layers are rounded, and little is lost"


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_packed_rows_are_as_good_as_single_ones(dtype: str, error: float, tmp_path: Path) -> None:
    policy = attached(tiny.save_folder(tmp_path / "base", "qwen3"), dtype)
    assert policy.exact.packs
    policy.eval()
    with torch.no_grad():
        whole = policy.logp(collate(ROWS))
        alone = torch.cat([policy.logp(collate([row])) for row in ROWS])
    torch.testing.assert_close(whole, alone, rtol=0, atol=error)


def test_it_learns(tmp_path: Path) -> None:
    policy = attached(tiny.save_folder(tmp_path / "base", "llama"), "bfloat16")
    losses = [event.loss for event in tiny.train(policy, ROWS, tmp_path / "run", epochs=8) if event.kind == "step"]
    assert losses[-1] < losses[0] - 0.1


def test_a_parameter_takes_the_byte_it_says(tmp_path: Path) -> None:
    wide = {"hidden_size": 1024, "intermediate_size": 1024, "num_hidden_layers": 1}
    tiny.random_model({**tiny.CONFIGS["llama"], **wide}, seed=0).save_pretrained(tmp_path)
    policy = load(resolve(str(tmp_path), tmp_path), quantization=qlora.quantization(INT8, "float32"))
    layers = [layer for layer in policy.model.modules() if isinstance(layer, RowLinear)]
    held = sum(layer.weight.nbytes + layer.weight.quant_state.rows.nbytes for layer in layers)
    assert held / sum(layer.weight.numel() for layer in layers) == pytest.approx(qlora.weight_bytes(INT8), rel=0.001)


def test_saved_read_again_and_merged(tmp_path: Path) -> None:
    base = job.save_model(tmp_path / "base")
    policy = attached(base)
    policy.eval()
    held = qlora.quantization(INT8, "float32")
    facts = {"base": str(base), "base_path": str(base), "quantization": held.json()}
    files = [base / "tokenizer.json", base / "tokenizer_config.json"]
    save_model(policy, tmp_path / "tuned", base=base, files=files, template=job.CHATML, facts=facts)
    again = open_model(tmp_path / "tuned").policy
    assert is_quantized(again.model)
    merge([str(tmp_path / "tuned")], tmp_path / "merged", emit=lambda event: None)
    whole = open_model(tmp_path / "merged").policy
    assert not is_quantized(whole.model)
    with torch.no_grad():
        wanted = policy.logp(collate(ROWS))
        assert torch.equal(again.logp(collate(ROWS)), wanted)
        torch.testing.assert_close(whole.logp(collate(ROWS)), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["qwen3", "bert"])
def test_a_head_is_not_rounded(name: str, tmp_path: Path) -> None:
    base = resolve(str(tiny.save_folder(tmp_path / "base", name)), tmp_path)
    held = qlora.quantization(INT8, "float32")
    policy = load(base, quantization=held, head=HeadSpec("classes", ("a", "b", "c")), seed=1)
    parts = [policy.model.get_submodule(part) for part in policy.head_modules()]
    assert parts
    assert not any(isinstance(layer, RowLinear) for part in parts for layer in part.modules())
    assert is_quantized(policy.model)


def test_it_needs_no_library_and_has_no_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "find_spec", lambda name: None)
    recipe = job.write(tmp_path, job.recipe(job.save_model(tmp_path / "model")))
    check(recipe, ["method={qlora: {quant_type: int8}}"], lambda event: None)
    with pytest.raises(RecipeError, match=r"(?s)double_quant: .*so this has no effect"):
        check(recipe, ["method={qlora: {quant_type: int8, double_quant: true}}"], lambda event: None)
