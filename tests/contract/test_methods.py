"""Every method: starts from the base, leaves frozen weights alone, saves what it made, and resumes."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import torch

from sartor import registry
from sartor.errors import Interrupted
from sartor.models.catalog import resolve
from sartor.models.load import load
from sartor.models.policy import CausalPolicy
from sartor.models.quantization import Quantization
from sartor.models.save import save_model
from sartor.tokens.batch import collate

NAMES = registry.names("method")
BATCH = collate(tiny.rows(5, seed=8))


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


def test_training_starts_at_the_base(base: Path, method: ModuleType) -> None:
    assert torch.equal(logits(attached(base, method)), logits(opened(base, method)))


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


def test_it_says_what_it_saves_and_at_which_rates_it_learns(method: ModuleType) -> None:
    low, high = method.LEARNING_RATE
    assert 0 < low < high < 1
    assert method.SAVES in ("adapter", "model")
