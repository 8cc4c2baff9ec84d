"""What is trained here loads in plain transformers and PEFT with equal logits, for every architecture."""

from __future__ import annotations

import pytest
import tiny
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from sartor import registry
from sartor.errors import ModelError
from sartor.models.adapters import load_adapter
from sartor.models.catalog import resolve
from sartor.models.load import load
from sartor.models.save import save_model
from sartor.recipe.schema import Component
from sartor.tokens.batch import collate

IDS = torch.randint(3, tiny.VOCABULARY, (1, 20), generator=torch.Generator().manual_seed(0))


def trained(folder, name, method, steps_folder, **options):
    base = tiny.save_folder(folder / "base", name)
    policy = load(resolve(str(base), folder))
    module = registry.component("method", method)
    module.attach(policy, module.Options(**options), seed=1)
    tiny.train(policy, tiny.rows(12), steps_folder, epochs=2, rate=1e-2)
    policy.eval()
    return base, policy


def own(policy):
    with policy.attention("eager"), torch.no_grad():
        return policy.model(input_ids=IDS).logits


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_lora_loads_in_plain_peft(tmp_path, name):
    base, policy = trained(tmp_path, name, "lora", tmp_path / "steps", rank=4)
    out = tmp_path / "out"
    save_model(policy, out, base=base, files=[], template="x", facts={"base": str(base)})
    plain = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    before = plain(input_ids=IDS).logits
    tuned = PeftModel.from_pretrained(plain, str(out)).eval()
    after = tuned(input_ids=IDS).logits
    assert torch.allclose(after, own(policy), atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)
    with policy.reference():
        assert torch.allclose(own(policy), before, atol=1e-5)


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_full_loads_in_plain_transformers(tmp_path, name):
    base, policy = trained(tmp_path, name, "full", tmp_path / "steps")
    out = tmp_path / "out"
    save_model(policy, out, base=base, files=[], template="x", facts={})
    plain = AutoModelForCausalLM.from_pretrained(out, attn_implementation="eager")
    assert torch.allclose(plain(input_ids=IDS).logits, own(policy), atol=1e-5)
    again = load(resolve(str(out), tmp_path))
    assert torch.allclose(own(again), own(policy), atol=1e-5)


def test_lora_starts_equal_to_the_base_and_leaves_it_bit_identical(tmp_path):
    base = tiny.save_folder(tmp_path / "base")
    untouched = load(resolve(str(base), tmp_path))
    _, policy = trained(tmp_path, "llama", "lora", tmp_path / "steps")
    fresh = load(resolve(str(base), tmp_path))
    lora = registry.component("method", "lora")
    lora.attach(fresh, lora.Options(), seed=1)
    assert torch.equal(own(fresh), own(untouched))
    frozen = {
        key.replace(".base_layer", ""): value for key, value in tiny.weights(policy).items() if "lora_" not in key
    }
    assert frozen.keys() == tiny.weights(untouched).keys()
    assert all(torch.equal(frozen[key], value) for key, value in tiny.weights(untouched).items())


def test_lora_init_follows_the_seed_not_the_global_generator(tmp_path):
    drawn = []
    for seed, noise in ((1, 5), (1, 6), (2, 5)):
        policy = tiny.policy()
        torch.manual_seed(noise)
        lora = registry.component("method", "lora")
        lora.attach(policy, lora.Options(rank=2), seed=seed)
        drawn.append(next(value for key, value in tiny.weights(policy).items() if "lora_A" in key))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("options", "scale"), [({"rank": 4}, 2.0), ({"rank": 4, "alpha": 4}, 1.0), ({"rank": 4, "rslora": True}, 4.0)])  # fmt: skip
def test_lora_scale_is_alpha_over_rank(options, scale):
    policy = tiny.policy()
    lora = registry.component("method", "lora")
    lora.attach(policy, lora.Options(**options), seed=0)
    scales = {
        part.scaling["default"]
        for part in policy.model.modules()
        if hasattr(part, "scaling") and isinstance(part.scaling, dict)
    }
    assert scales == {scale}


def test_target_modules_choose_the_layers_and_a_wrong_name_is_told():
    policy = tiny.policy()
    lora = registry.component("method", "lora")
    lora.attach(policy, lora.Options(target_modules=("q_proj",)), seed=0)
    assert all("q_proj" in name for name in policy.trainable())
    with pytest.raises(ModelError, match="q_proj") as caught:
        lora.attach(tiny.policy(), lora.Options(target_modules=("query",)), seed=0)
    assert "M120" in str(caught.value)


def test_an_adapter_that_does_not_fit_or_does_nothing_is_refused(tmp_path):
    base, policy = trained(tmp_path, "llama", "lora", tmp_path / "steps", rank=4)
    out = tmp_path / "out"
    save_model(policy, out, base=base, files=[], template="x", facts={"base": str(base)})
    from safetensors.torch import load_file, save_file

    file = out / "adapter_model.safetensors"
    tensors = load_file(file)
    first = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != first}, file)
    with pytest.raises(ModelError, match="M121"):
        load_adapter(tiny.policy(), out)
    save_file({key: value * 0 if "lora_B" in key else value for key, value in tensors.items()}, file)
    with pytest.raises(ModelError, match="M122"):
        load_adapter(tiny.policy(), out)


def test_an_adapter_folder_finds_its_base(tmp_path):
    base, policy = trained(tmp_path, "llama", "lora", tmp_path / "steps", rank=4)
    out = tmp_path / "out"
    save_model(policy, out, base=base, files=[], template="x", facts={"base": str(base)})
    again = load(resolve(str(out), tmp_path))
    batch = collate(tiny.rows(4))
    assert torch.allclose(again.logits(batch), policy.logits(batch), atol=1e-5)


def test_dropout_acts_where_there_is_some_and_is_refused_elsewhere(tmp_path):
    base = tiny.save_folder(tmp_path / "gpt2", "gpt2")
    policy = load(resolve(str(base), tmp_path), dropout=0.5)
    batch = collate(tiny.rows(3))
    policy.train()
    assert not torch.equal(policy.logits(batch), policy.logits(batch))
    policy.eval()
    assert torch.equal(policy.logits(batch), policy.logits(batch))


def test_methods_are_components_with_options():
    for name in registry.names("method"):
        module = registry.component("method", name)
        assert Component(name=name, options=module.Options()).name == name
        assert module.SAVES in ("model", "adapter")
