"""Weights read from disk one at a time, adapters merged into their base: against PEFT, in fp32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from sartor import registry
from sartor.errors import ModelError
from sartor.methods import lora, qlora
from sartor.models.catalog import ModelFolder, resolve
from sartor.models.heads import HeadSpec
from sartor.models.load import load
from sartor.models.merge_adapters import Adapters
from sartor.models.merging import Rule
from sartor.models.save import save_model
from sartor.models.weights import Weights, form_of, require_alike, stored, whole
from sartor.store.tensors import Form, forms, write_each
from sartor.tokens.batch import Rendered, collate


def opened(path: Path) -> ModelFolder:
    return resolve(str(path), path.parent)


def adapter(base: Path, out: Path, *, seed: int = 1, quantized: bool = False, **options: object) -> ModelFolder:
    """A LoRA adapter of random numbers."""
    held = qlora.quantization(qlora.Options(), "float32") if quantized else None
    policy = load(opened(base), quantization=held)
    lora.attach(policy, lora.Options(**{"rank": 3, **options}), seed=seed)
    draw = torch.Generator().manual_seed(seed)
    for parameter in policy.trainable().values():
        parameter.data.copy_(torch.randn(parameter.shape, generator=draw) / 5)
    facts = {"base": str(base), "quantization": held.json() if held else None}
    save_model(policy, out, base=base, files=[], template="x", facts=facts)
    return opened(out)


def saved_by_peft(base: Path, out: Path, config: peft.PeftConfig) -> ModelFolder:
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    draw = torch.Generator().manual_seed(4)
    for parameter in (each for each in model.parameters() if each.requires_grad):
        parameter.data.add_(torch.randn(parameter.shape, generator=draw) / 10)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(out)
    return opened(out)


def merged_by_peft(folder: ModelFolder, base: Path | None = None) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(base or folder.root.path, dtype=torch.float32)
    return dict(peft.PeftModel.from_pretrained(model, str(folder.path)).merge_and_unload().named_parameters())


def assert_same(weights: Weights, expected: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    found = weights.tensors()
    assert set(weights.forms) == {weights.bare(name) for name in expected}
    for name, tensor in expected.items():
        torch.testing.assert_close(found[weights.bare(name)], tensor.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_a_lora_adapter_is_merged_as_by_peft(name: str, rslora: bool, tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base", name)
    folder = adapter(base, tmp_path / "adapter", rslora=rslora, alpha=7.0)
    weights = whole(folder, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists(), "a plain adapter is merged without a copy of the model"
    assert_same(weights, merged_by_peft(folder))
    key = next(iter(weights.changes))
    assert not torch.equal(weights.tensors()[key], stored(opened(base), "base").tensors()[key])


CONFIGS = {
    "dora": peft.LoraConfig(r=2, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM"),
    "patterns": peft.LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 4}, alpha_pattern={"q_proj": 3}
    ),
    "oft": peft.OFTConfig(r=0, oft_block_size=4, target_modules=["q_proj"]),
    "ia3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_other_adapters_are_merged_by_peft_itself(kind: str, tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base")
    folder = saved_by_peft(base, tmp_path / "adapter", CONFIGS[kind])
    assert_same(whole(folder, tmp_path / "scratch"), merged_by_peft(folder), 1e-5)


def test_what_changes_no_weights_is_refused(tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    folder = saved_by_peft(base, tmp_path / "adapter", config)
    with pytest.raises(ModelError, match=r"M190.*prompt_tuning"):
        whole(folder, tmp_path / "scratch")


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_qlora_is_merged_into_what_its_four_bits_stand_for(name: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason='needs the extra "quant"', exc_type=ImportError)
    base = tiny.save_folder(tmp_path / "base", name)
    folder = adapter(base, tmp_path / "adapter", quantized=True, target_modules=("q_proj", "down_proj"))
    weights = whole(folder, tmp_path / "scratch")
    naive, tensors = merged_by_peft(folder), weights.tensors()
    key = "layers.0.self_attn.q_proj.weight"
    assert float((tensors[key] - naive[f"model.{key}"]).abs().max()) > 1e-3, "the base was rounded"
    out = tmp_path / "whole"
    out.mkdir()
    (out / "config.json").write_text((base / "config.json").read_text())
    save_file(
        {f"model.{each}" if each != "lm_head.weight" else each: tensors[each] for each in weights.forms},
        out / "model.safetensors",
    )
    batch = collate(tiny.rows(5, seed=8))
    with torch.no_grad():
        adapted, plain = load(folder).logits(batch), load(opened(out)).logits(batch)
    torch.testing.assert_close(plain, adapted, rtol=1e-4, atol=1e-5)


def test_models_that_differ_are_named_by_their_first_difference(tmp_path: Path) -> None:
    one = stored(opened(tiny.save_folder(tmp_path / "one")), "one")
    require_alike(one, stored(opened(tiny.save_folder(tmp_path / "two", seed=5)), "two"))
    other = stored(opened(tiny.save_folder(tmp_path / "other", "qwen3")), "other")
    with pytest.raises(ModelError, match=r"M191.*other and one.*model_type is 'qwen3' and not 'llama'"):
        require_alike(one, other)
    folder = tiny.save_folder(tmp_path / "theta")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    with pytest.raises(ModelError, match=r"rms_norm_eps is 0\.5"):
        require_alike(one, stored(opened(folder), "theta"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    lost = tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"norm.weight is in one, and not in theta"):
        require_alike(one, stored(opened(folder), "theta"))
    save_file({**tensors, "model.norm.weight": lost[:5].clone()}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"norm.weight is \[5\] and not \[32\]"):
        require_alike(one, stored(opened(folder), "theta"))


def test_names_with_and_without_the_trunks_prefix_and_tied_copies_are_one(tmp_path: Path) -> None:
    """As gpt2 lies on the hub: no prefix, masks among the weights, and a head that is the embedding."""
    folder = tiny.save_folder(tmp_path / "with", "gpt2")
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    other = tiny.save_folder(tmp_path / "without", "gpt2")
    mask = torch.ones(1, 1, 8, 8).tril()
    save_file(
        {**bare, "h.0.attn.bias": mask, "lm_head.weight": bare["wte.weight"].clone()}, other / "model.safetensors"
    )
    one, two = stored(opened(folder), "one"), stored(opened(other), "two")
    assert bare.keys() != tensors.keys()
    assert one.forms == two.forms
    require_alike(one, two)
    assert all(torch.equal(one.tensors()[name], two.tensors()[name]) for name in one.forms)


def test_a_quantised_model_on_disk_is_refused(tmp_path: Path) -> None:
    folder = tiny.save_folder(tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match="M193"):
        whole(opened(folder), tmp_path / "scratch")


@pytest.mark.parametrize(("how", "theirs", "given"), [("task", "linear", (0.8, -0.3)), ("ties", "ties", (0.8, 0.6))])
def test_adapters_are_merged_as_adapters_as_by_peft(
    how: str, theirs: str, given: tuple[float, float], tmp_path: Path
) -> None:
    base = tiny.save_folder(tmp_path / "base")
    folders = [adapter(base, tmp_path / str(seed), seed=seed, alpha=4.0 + seed) for seed in (1, 2)]
    made = Adapters(folders, Rule(how, given, 0.5))
    made.write(tmp_path / "merged.safetensors")
    found = load_file(tmp_path / "merged.safetensors")
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folders[0].path), "one")
    model.load_adapter(str(folders[1].path), "two")
    model.add_weighted_adapter(["one", "two"], list(given), "both", theirs, density=0.5)
    expected = {name.replace(".both", ""): tensor for name, tensor in model.state_dict().items() if ".both." in name}
    assert found.keys() == expected.keys()
    assert made.config["lora_alpha"] == made.config["r"] == 3
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_dare_of_adapters_keeps_or_drops_each_number(tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base")
    folders = [adapter(base, tmp_path / str(seed), seed=seed, alpha=6.0) for seed in (1, 2)]
    Adapters(folders, Rule("dare", (0.5, 0.5), 0.25)).write(tmp_path / "merged.safetensors")
    one, two = (load_file(folder.path / "adapter_model.safetensors") for folder in folders)
    for name, tensor in load_file(tmp_path / "merged.safetensors").items():
        scale = (0.5 * 6 / 3) ** 0.5 / 0.25
        each = torch.stack([scale * (a * one[name] + b * two[name]) for a in (0, 1) for b in (0, 1)])
        nearest, which = (each - tensor).abs().min(dim=0)
        assert float(nearest.max()) < 1e-5
        assert float((which >= 2).float().mean()) == pytest.approx(0.25, abs=0.12)


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base")
    other = tiny.save_folder(tmp_path / "other")
    one = adapter(base, tmp_path / "one")
    rule = Rule("linear", (0.5, 0.5))
    for folder, what in (
        (opened(base), "whole model"),
        (adapter(base, tmp_path / "two", rank=5), "rank 5"),
        (adapter(other, tmp_path / "three"), "has the base"),
        (adapter(base, tmp_path / "four", target_modules=("q_proj",)), "not of one shape"),
        (saved_by_peft(base, tmp_path / "five", CONFIGS["dora"]), "more than a plain"),
    ):
        with pytest.raises(ModelError, match=f"M194.*{what}"):
            Adapters([one, folder], rule)
    with pytest.raises(ModelError, match="slerp"):
        Adapters([one, one], Rule("slerp", (0.5, 0.5)))


def test_a_file_is_written_one_tensor_at_a_time(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 5).bfloat16(),
        "whole": torch.randn(7),
        "count": torch.tensor(5),
        "mask": torch.tensor([True, False, True]),
        "nothing": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "theirs.safetensors")
    wanted = forms(tmp_path / "theirs.safetensors")
    assert wanted["half"] == Form("BF16", (3, 5))
    write_each(tmp_path / "ours.safetensors", wanted, lambda name: tensors[name])
    found = load_file(tmp_path / "ours.safetensors")
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    with pytest.raises(ValueError, match="half"):
        write_each(
            tmp_path / "wrong.safetensors", wanted, lambda name: tensors[name][:1] if name == "half" else tensors[name]
        )


@pytest.mark.parametrize("name", ["bert", "t5", "deberta"])
def test_other_kinds_of_models_are_read_and_compared(name: str, tmp_path: Path) -> None:
    one, two = (stored(opened(tiny.save_folder(tmp_path / str(seed), name, seed=seed)), str(seed)) for seed in (1, 2))
    require_alike(one, two)
    folder = adapter(tmp_path / "1", tmp_path / "adapter")
    assert_same(whole(folder, tmp_path / "scratch"), merged_in_memory(folder))


def merged_in_memory(folder: ModelFolder) -> dict[str, torch.Tensor]:
    """By PEFT, in the model as it was opened for use."""
    policy = load(folder, kernels=False)
    policy.adapter.peft.merge_and_unload()  # type: ignore[union-attr]
    return dict(policy.model.named_parameters())


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_head_that_came_with_an_adapter_is_in_the_merged_model(method: str, name: str, tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base", name)
    head = HeadSpec("classes", ("bad", "good", "so so"))
    policy = load(opened(base), head=head, seed=3)
    module = registry.component("method", method)
    module.attach(policy, module.Options(), seed=1)
    draw = torch.Generator().manual_seed(1)
    for parameter in policy.trainable().values():
        parameter.data.add_(torch.randn(parameter.shape, generator=draw) / 10)
    save_model(policy, tmp_path / "adapter", base=base, files=[], template="x", facts={"base": str(base)})
    folder = opened(tmp_path / "adapter")
    weights = whole(folder, tmp_path / "scratch")
    form = form_of(folder, weights)
    assert {each.dtype for each in form.forms.values()} == {"F32"}
    out = tmp_path / "out"
    out.mkdir()
    tensors = weights.tensors()
    ((_, held),) = form.files.items()
    write_each(out / "model.safetensors", held, lambda each: tensors[form.bare(each)])
    (out / "config.json").write_text((form.root.path / "config.json").read_text())
    alone = load(opened(out))
    assert alone.head is not None
    assert alone.head.names == head.names
    batch = collate([Rendered(row.ids, row.weight, row.row, np.zeros(1, np.float32)) for row in tiny.rows(4, seed=8)])
    policy.eval()
    with torch.no_grad():
        torch.testing.assert_close(alone.score(batch), policy.score(batch), rtol=1e-4, atol=1e-5)


def test_a_bottleneck_adapter_is_refused(tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base")
    policy = load(opened(base))
    module = registry.component("method", "adapter")
    module.attach(policy, module.Options(), seed=1)
    for parameter in policy.trainable().values():
        parameter.data.add_(0.1)
    save_model(policy, tmp_path / "adapter", base=base, files=[], template="x", facts={"base": str(base)})
    with pytest.raises(ModelError, match=r"M190.*bottleneck"):
        whole(opened(tmp_path / "adapter"), tmp_path / "scratch")


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    """The file is mapped into memory: nothing may be changed in place."""
    weights = whole(adapter(tiny.save_folder(tmp_path / "base"), tmp_path / "adapter"), tmp_path / "scratch")
    tensors = weights.tensors()
    once = {name: tensor.clone() for name, tensor in tensors.items()}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in once.items())
