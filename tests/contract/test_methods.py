"""Every method: starts from the base, leaves frozen weights alone, saves what it made, and resumes."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import torch

from sartor import registry
from sartor.advise import shape
from sartor.errors import Interrupted, ModelError
from sartor.models.catalog import resolve
from sartor.models.load import load
from sartor.models.policy import CausalPolicy
from sartor.models.quantization import Quantization
from sartor.models.save import save_model
from sartor.tokens.batch import Batch, collate

NAMES = [name for name in registry.names("method") if not hasattr(registry.component("method", name), "HEADED")]
"""Those for models with words; that for heads alone is proven in tests/unit/methods/test_probe.py."""
BATCH = collate(tiny.rows(5, seed=8))
START: dict[str, float | None] = {"pissa": 1e-5, "prompt": None, "prefix": None}
"""How far from the base's logits a method may begin, where not at them to the bit; None: it begins somewhere else."""
NOT_FOR = {("oft", "gpt2")}
"""PEFT rotates no layers of GPT-2's kind."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_folder(tmp_path_factory.mktemp("methods") / "base")


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest) -> ModuleType:
    module = registry.component("method", request.param)
    if hasattr(module, "NEEDS"):
        pytest.importorskip(module.NEEDS[0], reason=f'needs the extra "{module.NEEDS[1]}"', exc_type=ImportError)
    return module


def quantization(method: ModuleType) -> Quantization | None:
    return method.quantization(method.Options(), "float32") if hasattr(method, "quantization") else None


def opened(base: Path, method: ModuleType) -> CausalPolicy:
    policy = load(resolve(str(base), base.parent), quantization=quantization(method))
    policy.eval()
    return policy


def attached(base: Path, method: ModuleType, *, seed: int = 1) -> CausalPolicy:
    policy = opened(base, method)
    method.attach(policy, method.Options(), seed=seed)
    policy.eval()
    return policy


def logits(policy: CausalPolicy) -> torch.Tensor:
    policy.eval()
    with torch.no_grad():
        return policy.logits(BATCH)


def frozen(policy: CausalPolicy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.model.named_parameters() if not p.requires_grad}


def key(method: ModuleType) -> str:
    return method.__name__.rpartition(".")[2]


def test_training_starts_at_the_base(base: Path, method: ModuleType) -> None:
    start, own, allowed = logits(attached(base, method)), logits(opened(base, method)), START.get(key(method), 0.0)
    if allowed is None:
        assert start.isfinite().all()
        assert not torch.allclose(start, own, atol=1e-3), "then it need not be named here"
    else:
        assert float((start - own).abs().max()) <= allowed


def test_something_moves_and_what_is_frozen_does_not(base: Path, method: ModuleType, tmp_path: Path) -> None:
    policy = attached(base, method)
    assert policy.trainable()
    still, before = frozen(policy), logits(policy)
    tiny.train(policy, tiny.rows(12), tmp_path, epochs=1)
    assert all(torch.equal(tensor, still[name]) for name, tensor in frozen(policy).items())
    assert not torch.allclose(logits(policy), before, atol=1e-3)
    if policy.adapter is not None:
        assert still, "an adapter leaves the base alone"
        with policy.reference():
            assert torch.equal(logits(policy), logits(opened(base, method)))


def test_saved_and_loaded_it_gives_the_same_logits(base: Path, method: ModuleType, tmp_path: Path) -> None:
    policy = attached(base, method)
    tiny.train(policy, tiny.rows(12), tmp_path / "steps", epochs=1)
    out = tmp_path / "out"
    held = quantization(method)
    facts = {"base": str(base), "base_path": str(base), "quantization": held.json() if held else None}
    save_model(policy, out, base=base, files=[], template="x", facts=facts)
    folder = resolve(str(out), tmp_path)
    assert folder.kind == method.SAVES
    assert torch.equal(logits(load(folder)), logits(policy))
    assert not list(out.rglob("*.bin"))


def test_interrupted_and_resumed_equals_unbroken(base: Path, method: ModuleType, tmp_path: Path) -> None:
    unbroken = attached(base, method)
    tiny.train(unbroken, tiny.rows(24), tmp_path / "a", epochs=2)
    counter = itertools.count(1)
    broken = attached(base, method)
    with pytest.raises(Interrupted):
        tiny.train(broken, tiny.rows(24), tmp_path / "b", epochs=2, stop_asked=lambda: next(counter) >= 4)
    resumed = attached(base, method, seed=99)
    tiny.train(resumed, tiny.rows(24), tmp_path / "b", epochs=2)
    wanted, found = tiny.weights(unbroken), tiny.weights(resumed)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert not torch.equal(logits(broken), logits(unbroken))


def test_the_seed_alone_decides_the_start(base: Path, method: ModuleType) -> None:
    torch.manual_seed(1)
    one = tiny.weights(attached(base, method, seed=5))
    torch.manual_seed(2)
    two = tiny.weights(attached(base, method, seed=5))
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_what_moves_is_predicted_from_the_files(tmp_path: Path, method: ModuleType, name: str) -> None:
    if (key(method), name) in NOT_FOR:
        with pytest.raises(ModelError, match="M123"):
            attached(tiny.save_folder(tmp_path / "base", name), method)
        return
    folder = tiny.save_folder(tmp_path / "base", name)
    policy = attached(folder, method)
    form = shape.read(resolve(str(folder), tmp_path).config, sorted(folder.glob("*.safetensors")))
    moves = sum(parameter.numel() for parameter in policy.trainable().values())
    assert method.trainable(form, method.Options()) == moves
    assert (method.width(form, method.Options()) == 0) == (method.SAVES == "model")


def gradients(policy: CausalPolicy, batches: list[Batch]) -> dict[str, torch.Tensor]:
    policy.model.zero_grad()
    for batch in batches:
        tiny.objective(policy, batch).total.backward()
    return {name: p.grad.clone() for name, p in policy.trainable().items() if p.grad is not None}


def away(policy: CausalPolicy) -> CausalPolicy:
    """The same policy with what moves pushed away from where it begins, so that every part of it has a gradient."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draw))
    return policy


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_packed_rows_give_the_gradient_of_rows_one_by_one(tmp_path: Path, method: ModuleType, name: str) -> None:
    if (key(method), name) in NOT_FOR:
        return
    policy, rows = away(attached(tiny.save_folder(tmp_path / "base", name), method)), tiny.rows(7)
    packed, apart = gradients(policy, [collate(rows)]), gradients(policy, [collate([row]) for row in rows])
    assert packed.keys() == policy.trainable().keys()
    tiny.assert_close(packed, apart)


def test_recomputed_activations_give_the_same_gradient(base: Path, method: ModuleType) -> None:
    policy, batch = away(attached(base, method)), collate(tiny.rows(7))
    policy.train()
    kept = gradients(policy, [batch])
    policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.train()
    again = gradients(policy, [batch])
    assert kept.keys() == again.keys()
    assert all(torch.equal(again[name], gradient) for name, gradient in kept.items())


def test_bfloat16_follows_float32(base: Path, method: ModuleType) -> None:
    folder = resolve(str(base), base.parent)
    held = method.quantization(method.Options(), "bfloat16") if hasattr(method, "quantization") else None
    short = load(folder, dtype="bfloat16", quantization=held)
    method.attach(short, method.Options(), seed=1)
    assert {parameter.dtype for parameter in short.trainable().values()} == {torch.bfloat16}
    wide = attached(base, method)
    assert float((logits(short) - logits(wide)).norm() / logits(wide).norm()) < (0.2 if held else 0.02)


@pytest.mark.parametrize("name", registry.names("method"))
def test_it_says_what_it_saves_and_at_which_rates_it_learns(name: str) -> None:
    method = registry.component("method", name)
    low, high = method.LEARNING_RATE
    assert 0 < low < high < 1
    for parameters in (10_000, 6_500_000, 135_000_000, 70_000_000_000):
        rate, why = method.learning_rate(parameters, method.Options())
        assert low <= rate <= high, f"the default for {parameters:,} parameters would be warned about"
        assert why
    assert method.SAVES in ("adapter", "model")
