"""Adapters of each kind: against PEFT itself and the formulas they come from, merged, and several on one base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from sartor import registry
from sartor.errors import ModelError
from sartor.models.catalog import resolve
from sartor.models.heads import HeadSpec
from sartor.models.hf import random_causal
from sartor.models.load import load, open_adapter
from sartor.models.low_rank import FastLora
from sartor.models.policy import CausalPolicy
from sartor.models.principal import decomposed
from sartor.models.save import save_model
from sartor.tokens.batch import collate

IDS = torch.randint(3, tiny.VOCABULARY, (1, 20), generator=torch.Generator().manual_seed(0))
BATCH = collate(tiny.rows(5, seed=8))
MODULES = {name: registry.component("method", name) for name in registry.names("method")}
NAMES = [name for name, module in MODULES.items() if not (hasattr(module, "NEEDS") or hasattr(module, "HEADED"))]
IN_PEFT = [name for name in NAMES if registry.component("method", name).SAVES == "adapter" and name != "adapter"]
MERGING = [name for name in NAMES if getattr(registry.component("method", name), "MERGES", False)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_folder(tmp_path_factory.mktemp("adapters") / "base")


def trained(base: Path, method: str, work: Path, *, seed: int = 1, **options: Any) -> CausalPolicy:
    policy = load(resolve(str(base), base.parent))
    module = registry.component("method", method)
    module.attach(policy, module.Options(**options), seed=seed)
    tiny.train(policy, tiny.rows(12, seed=seed), work / "steps", epochs=2)
    policy.eval()
    save_model(policy, work / "out", base=base, files=[], template="x", facts={"base": str(base)})
    return policy


def own(policy: CausalPolicy) -> torch.Tensor:
    with policy.attention("eager"), torch.no_grad():
        return policy.logits(BATCH)


def plain(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager").eval()


def by_rows(model: Any) -> torch.Tensor:
    """[N, V] a model's logits at the scored places, row by row, by its own forward."""
    found = []
    with torch.no_grad():
        for row in tiny.rows(5, seed=8):
            logits = model(input_ids=torch.from_numpy(row.ids).long()[None]).logits[0]
            found.append(logits[-len(row) :][collate([row]).at])
    return torch.cat(found)


@pytest.mark.parametrize("method", IN_PEFT)
def test_it_loads_in_plain_peft_with_equal_logits(base: Path, method: str, tmp_path: Path) -> None:
    policy = trained(base, method, tmp_path)
    untouched = plain(base)
    before = by_rows(untouched)
    found = by_rows(PeftModel.from_pretrained(untouched, str(tmp_path / "out")).eval())
    with torch.no_grad():
        assert torch.allclose(found, policy.logits(BATCH), atol=1e-5)
        assert float((found - before).norm() / before.norm()) > 5e-3
        with policy.reference():
            assert torch.allclose(policy.logits(BATCH), before, atol=1e-5)


@pytest.mark.parametrize("method", MERGING)
def test_merged_it_gives_the_logits_that_it_gives_beside_the_base(base: Path, method: str, tmp_path: Path) -> None:
    policy = trained(base, method, tmp_path)
    merged = PeftModel.from_pretrained(plain(base), str(tmp_path / "out")).merge_and_unload()
    with torch.no_grad():
        assert torch.allclose(by_rows(merged), policy.logits(BATCH), atol=1e-5)


def test_dora_is_its_formula(base: Path, tmp_path: Path) -> None:
    """Liu et al. 2024, equation 5, on the weights of one layer; LoRA's joined product is not what computes it."""
    policy = trained(base, "dora", tmp_path, rank=4, target_modules=("q_proj",))
    layer: Any = policy.model.get_submodule("model.layers.0.self_attn.q_proj")
    a, b = (getattr(layer, f"lora_{side}")["default"].weight for side in "AB")
    moved = layer.base_layer.weight + 2.0 * b @ a
    whole = layer.lora_magnitude_vector["default"].weight[:, None] * moved / moved.norm(dim=1, keepdim=True)
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(layer(x), x @ whole.T, atol=1e-5)
        assert not torch.allclose(layer(x), x @ moved.T, atol=1e-3)


def test_pissa_begins_where_peft_begins_and_leaves_the_base(base: Path, tmp_path: Path) -> None:
    policy = load(resolve(str(base), base.parent))
    module = registry.component("method", "pissa")
    module.attach(policy, module.Options(rank=4, iterations=0), seed=1)
    config = LoraConfig(
        r=4, lora_alpha=4, init_lora_weights="pissa", target_modules="all-linear", task_type="CAUSAL_LM"
    )
    theirs = get_peft_model(plain(base), config).get_base_model()
    for name, parameter in policy.trainable().items():
        assert torch.allclose(parameter, theirs.get_parameter(name), atol=1e-6), name
    stored = dict(plain(base).named_parameters())
    for name, tensor in tiny.weights(policy).items():
        if ".base_layer." in name:
            assert torch.equal(tensor, stored[name.replace(".base_layer.", ".")])


def test_pissa_learns_what_peft_learns(base: Path, tmp_path: Path) -> None:
    """The same gradient as PEFT's, which has changed the base instead."""
    policy = load(resolve(str(base), base.parent))
    module = registry.component("method", "pissa")
    module.attach(policy, module.Options(rank=4, iterations=0), seed=1)
    config = LoraConfig(
        r=4, lora_alpha=4, init_lora_weights="pissa", target_modules="all-linear", task_type="CAUSAL_LM"
    )
    theirs = get_peft_model(plain(base), config).get_base_model()
    policy.logits(collate([tiny.rows(1)[0]])).square().sum().backward()
    row = tiny.rows(1)[0]
    logits = theirs(input_ids=torch.from_numpy(row.ids).long()[None]).logits[0][collate([row]).at]
    logits.square().sum().backward()
    for name, parameter in policy.trainable().items():
        wanted = theirs.get_parameter(name).grad
        assert torch.allclose(parameter.grad, wanted, atol=1e-4 * float(wanted.abs().max())), name


def test_pissa_finds_the_same_components_at_random(base: Path) -> None:
    """The randomised decomposition of a weight whose components differ in size, as those of trained models do."""
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(size, 32, generator=draw))[0] for size in (48, 40))
    weight = left @ torch.diag(0.7 ** torch.arange(32)) @ right.T
    exact, drawn = ((a * s) @ b for a, s, b in (decomposed(weight, 4, count) for count in (0, 16)))
    assert torch.allclose(exact, drawn, atol=1e-4)
    module = registry.component("method", "pissa")
    with pytest.raises(ModelError, match="M125"):
        module.attach(load(resolve(str(base), base.parent)), module.Options(rank=33), seed=1)


def test_joined_products_serve_lora_alone(base: Path) -> None:
    """Another method's layers are never computed as LoRA's."""
    for method in NAMES:
        policy = load(resolve(str(base), base.parent))
        module = registry.component("method", method)
        module.attach(policy, module.Options(), seed=1)
        kinds = {part.__class__.__name__ for part in policy.model.modules() if isinstance(part, FastLora)}
        wanted = {"lora": {"FastLinear"}, "dora": {"FastLinear"}, "pissa": {"PrincipalFastLinear"}}
        assert kinds == wanted.get(method, set()), method


@pytest.mark.parametrize("method", ["lora", "vera", "adapter", "prompt", "prefix"])
def test_several_adapters_stand_on_one_base(base: Path, method: str, tmp_path: Path) -> None:
    alone = [trained(base, method, tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    wanted = [own(policy) for policy in alone]
    with alone[0].reference():
        wanted.append(own(alone[0]))
    folders = [resolve(str(tmp_path / str(seed) / "out"), tmp_path) for seed in (1, 2)]
    policy = load(folders[0])
    open_adapter(policy, folders[1], name="other")
    assert sum(p.numel() for p in policy.model.parameters()) < 1.9 * sum(p.numel() for p in alone[0].model.parameters())
    for name, logits in (("default", wanted[0]), ("other", wanted[1]), (None, wanted[2]), ("default", wanted[0])):
        with policy.using(name):
            assert torch.allclose(own(policy), logits, atol=1e-6), name
            with policy.using(None):
                assert torch.equal(own(policy), wanted[2])
            assert torch.allclose(own(policy), logits, atol=1e-6), name
    assert torch.allclose(own(policy), wanted[1], atol=1e-6), "the one opened last is in use"
    with pytest.raises(KeyError):
        policy.using("nobody").__enter__()


def test_switching_leaves_what_moves_as_it_is(base: Path, tmp_path: Path) -> None:
    trained(base, "lora", tmp_path / "1", seed=1)
    policy = load(resolve(str(base), base.parent))
    module = registry.component("method", "lora")
    module.attach(policy, module.Options(), seed=1)
    moves = set(policy.trainable())
    open_adapter(policy, resolve(str(tmp_path / "1/out"), tmp_path), name="other")
    assert set(policy.trainable()) == moves
    for name in ("default", "other", None):
        with policy.using(name):
            assert set(policy.trainable()) == moves
    with policy.using("default"):
        policy.logits(BATCH).sum().backward()
    assert all(parameter.grad is not None for parameter in policy.trainable().values())


def test_adapters_that_cannot_stand_together_are_refused(base: Path, tmp_path: Path) -> None:
    for method in ("lora", "ia3", "adapter"):
        trained(base, method, tmp_path / method)
    trained(base, "vera", tmp_path / "vera")
    trained(base, "vera", tmp_path / "else", matrices=5)
    trained(base, "prompt", tmp_path / "prompt")
    policy = load(resolve(str(tmp_path / "lora/out"), tmp_path))
    open_adapter(policy, resolve(str(tmp_path / "prompt/out"), tmp_path), name="other")
    for name, method in (("default", "lora"), ("other", "prompt")):
        alone = load(resolve(str(tmp_path / method / "out"), tmp_path))
        with policy.using(name):
            assert torch.allclose(own(policy), own(alone), atol=1e-6), "a prompt stands beside anything"
    for one, other in (("lora", "ia3"), ("lora", "adapter"), ("adapter", "lora"), ("vera", "else")):
        policy = load(resolve(str(tmp_path / one / "out"), tmp_path))
        with pytest.raises(ModelError, match="M124"):
            open_adapter(policy, resolve(str(tmp_path / other / "out"), tmp_path), name="other")


def test_networks_are_the_formula_they_come_from() -> None:
    """Houlsby et al. 2019, section 2.1: behind both ends of every layer, before the residual is added."""
    policy = tiny.policy("llama", kernels=False)
    module = registry.component("method", "adapter")
    module.attach(policy, module.Options(size=5), seed=3)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    written = random_causal(tiny.CONFIGS["llama"], seed=0)
    moved = {name: p.detach() for name, p in policy.trainable().items()}

    def behind(path: str) -> Any:
        down, up = (
            [moved[f"{path}.networks.0.{part}.{kind}"] for kind in ("weight", "bias")] for part in ("down", "up")
        )

        def hook(layer: Any, inputs: Any, h: torch.Tensor) -> torch.Tensor:
            return h + torch.nn.functional.gelu(h @ down[0].T + down[1]) @ up[0].T + up[1]

        return hook

    for number in range(2):
        for path in (f"model.layers.{number}.self_attn.o_proj", f"model.layers.{number}.mlp.down_proj"):
            written.get_submodule(path).register_forward_hook(behind(path))
    with torch.no_grad():
        assert torch.allclose(policy.logits(BATCH), by_rows(written.eval()), atol=1e-4)


@pytest.mark.parametrize("method", ["dora", "pissa", "oft", "vera", "ia3", "adapter", "partial"])
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_head_moves_with_it_and_is_saved(method: str, name: str, tmp_path: Path) -> None:
    """Of a decoder and of an encoder, in place of words."""
    head = HeadSpec("classes", ("a", "b", "c"))
    base = tiny.save_folder(tmp_path / "base", name)
    policy = load(resolve(str(base), tmp_path), head=head)
    module = registry.component("method", method)
    module.attach(policy, module.Options(), seed=1)
    of_head = [path for path in policy.trainable() if path.startswith(tuple(policy.head_modules()))]
    assert of_head
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.05)
    policy.eval()
    facts = {"base": str(base), "head": head.json()}
    save_model(policy, tmp_path / "out", base=base, files=[], template="x", facts=facts)
    again = load(resolve(str(tmp_path / "out"), tmp_path))
    with torch.no_grad():
        assert torch.allclose(again.score(BATCH), policy.score(BATCH), atol=1e-5)
        if policy.adapter is not None:
            with policy.reference():
                assert not torch.allclose(policy.score(BATCH), again.score(BATCH), atol=1e-3)
