"""Bases in four bits: the numbers of the dequantised model, in training as in evaluation, and refused where they would differ."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import job
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from sartor.errors import ModelError, RecipeError
from sartor.flow import prepare as preparing
from sartor.flow.check import check
from sartor.methods import lora, qlora
from sartor.models.catalog import resolve
from sartor.models.heads import HeadSpec
from sartor.models.load import load
from sartor.models.policy import CausalPolicy
from sartor.models.quantization import Quantization
from sartor.models.save import save_model
from sartor.tokens.batch import collate

ROWS = tiny.rows(6, seed=4)


@pytest.fixture
def bitsandbytes() -> None:
    pytest.importorskip("bitsandbytes", reason='needs the extra "quant"', exc_type=ImportError)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_folder(tmp_path_factory.mktemp("quantized") / "base", "qwen3")


def opened(base: Path, dtype: str = "float32", **options: object) -> CausalPolicy:
    return load(resolve(str(base), base), dtype=dtype, quantization=qlora.quantization(qlora.Options(**options), dtype))


def attached(base: Path, dtype: str = "float32", **options: object) -> CausalPolicy:
    """QLoRA whose B is not zero, so that its A has a gradient."""
    policy = opened(base, dtype)
    qlora.attach(policy, qlora.Options(**options), seed=3)
    with_b(policy)
    return policy


def with_b(policy: CausalPolicy) -> None:
    draw = torch.Generator().manual_seed(5)
    for name, parameter in policy.trainable().items():
        if ".lora_B." in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) / 10)


def gradients(policy: CausalPolicy) -> dict[str, torch.Tensor]:
    policy.train()
    policy.model.zero_grad()
    policy.nll(collate(ROWS)).backward()
    return {name: parameter.grad.clone() for name, parameter in policy.trainable().items()}


def dequantised(base: Path, policy: CausalPolicy, folder: Path) -> CausalPolicy:
    """LoRA on a plain model with the weights that the quantised layers stand for."""
    import bitsandbytes

    tensors = load_file(base / "model.safetensors")
    for name, layer in policy.model.named_modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            key = name.replace(".base_layer", "") + ".weight"
            assert key in tensors
            tensors[key] = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text((base / "config.json").read_text())
    plain = load(resolve(str(folder), folder))
    lora.attach(plain, lora.Options(), seed=3)
    with_b(plain)
    return plain


@pytest.mark.usefixtures("bitsandbytes")
def test_it_computes_as_lora_on_the_dequantised_base(base: Path, tmp_path: Path) -> None:
    policy = attached(base)
    reference = dequantised(base, policy, tmp_path / "plain")
    wanted, found = gradients(reference), gradients(policy)
    assert wanted.keys() == found.keys()
    assert any(bool(tensor.any()) for name, tensor in wanted.items() if ".lora_A." in name)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    original = load(resolve(str(base), base))
    with torch.no_grad(), policy.reference() as quantised:
        away = (quantised.logp(collate(ROWS)) - original.logp(collate(ROWS))).abs().max()
    assert float(away) > 1e-3, "the layers are quantised"


@pytest.mark.usefixtures("bitsandbytes")
def test_an_evaluation_does_not_change_the_training_after_it(base: Path) -> None:
    """bitsandbytes would pack the weights anew in evaluation, and training would then send no gradient through a layer."""
    fresh, used = attached(base, "bfloat16"), attached(base, "bfloat16")
    used.eval()
    with torch.no_grad():
        used.logp(collate(ROWS))
        kept = used.logp(collate(ROWS))
    used.train()
    assert torch.equal(kept, used.logp(collate(ROWS)).detach()), "dropout is off: training computes as evaluation does"
    wanted, found = gradients(fresh), gradients(used)
    assert all(bool(tensor.any()) for tensor in found.values())
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.usefixtures("bitsandbytes")
@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_packed_rows_are_as_good_as_single_ones(base: Path, dtype: str, error: float) -> None:
    policy = attached(base, dtype)
    assert policy.exact.packs
    assert policy.exact.packing_error < error
    policy.eval()
    with torch.no_grad():
        packed = policy.logp(collate(ROWS))
        alone = torch.cat([policy.logp(collate([row])) for row in ROWS])
    torch.testing.assert_close(packed, alone, rtol=0, atol=error)


@pytest.mark.usefixtures("bitsandbytes")
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "phi3"])
def test_every_architecture_learns_in_four_bits(name: str, tmp_path: Path) -> None:
    policy = attached(tiny.save_folder(tmp_path / "base", name))
    losses = [event.loss for event in tiny.train(policy, ROWS, tmp_path / "run", epochs=8) if event.kind == "step"]
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.usefixtures("bitsandbytes")
def test_options_of_the_quantisation_act_and_it_takes_the_memory_it_says(tmp_path: Path) -> None:
    import bitsandbytes

    wide = {"hidden_size": 128, "intermediate_size": 512}
    folder = tmp_path / "wide"
    tiny.random_model({**tiny.CONFIGS["llama"], **wide}, seed=0).save_pretrained(folder)
    made = [opened(folder), opened(folder, quant_type="fp4"), opened(folder, double_quant=False)]
    with torch.no_grad():
        answers = [policy.logp(collate(ROWS)) for policy in made]
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    for policy, wanted in ((made[0], qlora.WEIGHT_BYTES), (made[2], 0.5625)):
        layers = [layer for layer in policy.model.modules() if isinstance(layer, bitsandbytes.nn.Linear4bit)]
        numbers = sum(layer.in_features * layer.out_features for layer in layers)
        states = [layer.weight.quant_state for layer in layers]
        held = sum(layer.weight.nbytes for layer in layers) + sum(state.absmax.nbytes for state in states)
        held += sum(state.state2.absmax.nbytes for state in states if state.nested)
        assert held / numbers == pytest.approx(wanted, rel=0.01)


def test_a_plain_base_is_not_taken(base: Path) -> None:
    with pytest.raises(ValueError, match="quantization"):
        qlora.attach(load(resolve(str(base), base)), qlora.Options(), seed=0)


def test_what_an_adapter_was_trained_on_is_remembered(tmp_path: Path, base: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    folder = resolve(str(tmp_path), tmp_path)
    assert Quantization.of(folder) is None
    held = Quantization("fp4", True, "bfloat16")
    (tmp_path / "sartor.json").write_text(json.dumps({"quantization": held.json()}))
    assert Quantization.of(folder) == held
    with pytest.raises(ModelError, match=r"M162.*bfloat16"):
        load(folder, dtype="float32")


@pytest.mark.usefixtures("bitsandbytes")
def test_numbers_that_are_none_are_seen_before_they_are_rounded(tmp_path: Path, base: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][3, 3] = float("nan")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    (broken / "config.json").write_text((base / "config.json").read_text())
    with pytest.raises(ModelError, match=r"M111.*up_proj"):
        opened(broken)


@pytest.mark.parametrize("change", ["method=qlora", "train.optimizer=adamw8bit"])
def test_without_the_library_the_recipe_is_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "find_spec", lambda name: None)
    recipe = job.write(tmp_path, job.recipe(job.save_model(tmp_path / "model")))
    with pytest.raises(RecipeError, match=r'R148.*bitsandbytes.*pip install "sartor\[quant\]"'):
        check(recipe, [change], lambda event: None)


def test_without_the_library_a_model_in_four_bits_is_refused() -> None:
    code = (
        "import sys; sys.modules['bitsandbytes'] = None\n"
        "from sartor.models import quantized\n"
        "quantized.adamw_8bit([], learning_rate=1.0, betas=(0.9, 0.9), eps=1.0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "M160" in done.stderr
    assert "sartor[quant]" in done.stderr


@pytest.mark.usefixtures("bitsandbytes")
def test_no_code_is_fetched_by_the_import(tmp_path: Path) -> None:
    """bitsandbytes asks a library `kernels` for machine code from the network while it is imported; ours keeps it from it."""
    (tmp_path / "kernels.py").write_text("def get_kernel(*a, **k): print('fetched')\n")
    code = "from sartor.models.adapters import _library; print(_library().__name__, 'bitsandbytes' in __import__('sys').modules); import kernels"
    environment = {**job.ENVIRONMENT, "PYTHONPATH": ":".join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.stdout.split() == ["peft", "True"], done.stderr
    assert "kernels" not in done.stderr
    assert logging.getLogger("bitsandbytes.backends.cpu.ops").level == logging.NOTSET


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "bert"])
def test_a_head_is_not_quantised_and_learns_beside_the_updates(bitsandbytes: None, name: str, tmp_path: Path) -> None:
    head = HeadSpec("classes", ("a", "b", "c"))
    base = resolve(str(tiny.save_folder(tmp_path / "base", name)), tmp_path)
    held = qlora.quantization(qlora.Options(), "float32")
    policy = load(base, quantization=held, head=head, seed=1)
    assert all(policy.model.get_submodule(part).weight.is_floating_point() for part in ("score", "classifier")
               if hasattr(policy.model, part))  # fmt: skip
    qlora.attach(policy, qlora.Options(), seed=3)
    start = policy.score(collate(ROWS)).detach()
    loss = torch.nn.functional.cross_entropy(policy.score(collate(ROWS)), torch.arange(6) % 3)
    loss.backward()
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.sub_(parameter.grad, alpha=0.5)
    tuned = policy.score(collate(ROWS)).detach()
    assert not torch.allclose(tuned, start, atol=1e-3)
    facts = {"base": str(base.path), "quantization": held.json()}
    save_model(policy, tmp_path / "out", base=base.path, files=[], template="x", facts=facts)
    again = load(resolve(str(tmp_path / "out"), tmp_path))
    assert torch.equal(again.score(collate(ROWS)), tuned)
