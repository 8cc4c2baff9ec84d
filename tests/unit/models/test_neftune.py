"""Noise on embeddings: as strong as the paper says for each row, in training alone, and drawn again by a resumed run."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from sartor import registry
from sartor.errors import Interrupted, ModelError
from sartor.models.neftune import shake
from sartor.models.policy import CausalPolicy
from sartor.tokens.batch import Batch, collate, collate_shared

WIDTH = 32


def shaken(alpha: float = 10.0, name: str = "llama") -> CausalPolicy:
    policy = tiny.policy(name)
    policy.model.requires_grad_(True)
    shake(policy, alpha)
    return policy


def embedded(policy: CausalPolicy, batch: Batch, seed: int = 0) -> torch.Tensor:
    """[T, H] what goes into the first layer."""
    kept: list[torch.Tensor] = []
    first = policy.model.get_submodule("model.layers.0")
    handle = first.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0][0].detach().clone()))
    torch.manual_seed(seed)
    with torch.no_grad():
        policy.hidden(batch)
    handle.remove()
    return kept[0]


def test_noise_is_as_strong_as_the_paper_says_for_the_length_of_each_row() -> None:
    policy, rows = shaken(), tiny.rows(6, longest=60)
    batch = collate(rows)
    policy.eval()
    bare = embedded(policy, batch)
    policy.train()
    noise = torch.stack([embedded(policy, batch, seed) - bare for seed in range(200)])
    start = 0
    for row in rows:
        own = noise[:, start : start + len(row)]
        bound = 10.0 / (len(row) * WIDTH) ** 0.5
        assert float(own.abs().max()) <= bound + 1e-6
        assert float(own.abs().max()) > 0.99 * bound
        assert float(own.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
        assert abs(float(own.mean())) < 0.02 * bound
        start += len(row)


def test_it_is_drawn_from_the_seeded_generator_and_only_in_training() -> None:
    policy, batch = shaken(), collate(tiny.rows(4))
    policy.train()
    assert torch.equal(embedded(policy, batch, 1), embedded(policy, batch, 1))
    assert not torch.equal(embedded(policy, batch, 1), embedded(policy, batch, 2))
    policy.eval()
    plain = tiny.policy()
    assert torch.equal(policy.logits(batch), plain.logits(batch))
    with policy.generating() as model:
        ids = torch.tensor([[5, 6, 7]])
        assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_rows_share_no_beginning_while_there_is_noise() -> None:
    assert not tiny.policy().drops
    assert shaken().drops
    assert collate_shared(tiny.rows(2)).tokens, "what training uses where nothing is random"


@pytest.mark.parametrize(("method", "shares"), [("prompt", True), ("prompt", False), ("prefix", True), ("lora", True)])
def test_virtual_tokens_have_none_and_do_not_count(method: str, shares: bool) -> None:
    policy, rows = tiny.policy(), tiny.rows(3)
    module = registry.component("method", method)
    module.attach(policy, module.Options(), seed=1)
    shake(policy, 10.0)
    policy.exact = replace(policy.exact, shares=shares)
    batch = collate(rows)
    policy.eval()
    bare = embedded(policy, batch)
    policy.train()
    noise = (embedded(policy, batch) - bare).abs()
    count = 0 if policy.virtual is None else policy.virtual.count
    place = count if shares else 0
    if method == "prompt":
        assert not bool(noise[:count].any())
    for row in rows:
        place += 0 if shares else count
        largest = float(noise[place : place + len(row)].max())
        assert largest == pytest.approx(10.0 / (len(row) * WIDTH) ** 0.5, rel=0.1)
        place += len(row)


def test_a_resumed_run_draws_what_the_unbroken_one_draws(tmp_path: Path) -> None:
    unbroken = shaken()
    tiny.train(unbroken, tiny.rows(24), tmp_path / "a", epochs=2)
    counter = itertools.count(1)
    with pytest.raises(Interrupted):
        tiny.train(shaken(), tiny.rows(24), tmp_path / "b", epochs=2, stop_asked=lambda: next(counter) >= 4)
    resumed = shaken()
    tiny.train(resumed, tiny.rows(24), tmp_path / "b", epochs=2)
    plain = tiny.policy()
    plain.model.requires_grad_(True)
    tiny.train(plain, tiny.rows(24), tmp_path / "c", epochs=2)
    wanted = tiny.weights(unbroken)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in tiny.weights(resumed).items())
    assert not all(torch.equal(tensor, wanted[name]) for name, tensor in tiny.weights(plain).items())


def test_other_models_are_refused() -> None:
    policy = tiny.policy(next(iter(tiny.ENCODERS)))
    with pytest.raises(ModelError, match="M128"):
        shake(policy, 5.0)
