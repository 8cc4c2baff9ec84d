"""Prompt and prefix tuning: equal to PEFT's own forward and gradient, in packed batches, in slots and in padded batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from sartor import registry
from sartor.errors import ModelError
from sartor.generate import local
from sartor.generate.local import LocalGenerator
from sartor.models.catalog import resolve
from sartor.models.hf import random_causal
from sartor.models.load import load, policy_of
from sartor.models.policy import CausalPolicy
from sartor.models.save import save_model
from sartor.models.virtual import lead
from sartor.tokens.batch import Rendered, collate, collate_shared

CONFIG = {"prompt": PromptTuningConfig, "prefix": PrefixTuningConfig}
ROWS = tiny.rows(6, seed=4)
both = pytest.mark.parametrize("method", ["prompt", "prefix"])


def attached(method: str, name: str = "llama", *, seed: int = 1, **options: Any) -> CausalPolicy:
    policy = tiny.policy(name)
    module = registry.component("method", method)
    module.attach(policy, module.Options(**options), seed=seed)
    policy.eval()
    return policy


def peft_over(policy: CausalPolicy, method: str, name: str) -> Any:
    """PEFT's model on another copy of the base, with the same numbers before every row."""
    plain = random_causal(tiny.CONFIGS[name], seed=0).eval()
    plain.set_attn_implementation("eager")
    count = policy.virtual.count
    wrapper = get_peft_model(plain, CONFIG[method](task_type="CAUSAL_LM", num_virtual_tokens=count))
    ours = policy.adapter.peft.prompt_encoder["default"].embedding.weight  # type: ignore[union-attr]
    wrapper.prompt_encoder["default"].embedding.weight.data.copy_(ours.data)
    return wrapper.eval()


@both
@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_logits_and_gradient_are_those_of_peft(method: str, name: str) -> None:
    policy = attached(method, name, tokens=5)
    theirs = peft_over(policy, method, name)
    batch = collate(ROWS)
    ours = policy.logits(batch)
    found = []
    for row in ROWS:
        logits = theirs(input_ids=torch.from_numpy(row.ids).long()[None]).logits[0, -len(row) :]
        found.append(logits[collate([row]).at])
    wanted = torch.cat(found)
    assert torch.allclose(ours, wanted, atol=1e-5)
    ours.square().sum().backward()
    wanted.square().sum().backward()
    (parameter,) = policy.trainable().values()
    reference = theirs.prompt_encoder["default"].embedding.weight.grad
    assert torch.allclose(parameter.grad, reference, atol=1e-4 * float(reference.abs().max()))


@both
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_every_layout_of_the_rows_gives_the_same(method: str, name: str) -> None:
    """Shared beginnings, places before each row, and a model that takes rows one by one only."""
    policy, batch = attached(method, name, tokens=7), collate(ROWS)
    with torch.no_grad():
        wanted = policy.logits(batch)
        policy.exact = replace(policy.exact, shares=False)
        assert torch.allclose(policy.logits(batch), wanted, atol=1e-5)
        policy.exact = replace(policy.exact, shares=True)
        twins = [*ROWS, *(replace(row, ids=row.ids.copy()) for row in ROWS[:3])]
        shared = collate_shared(twins, least=2)
        assert shared.tokens < sum(map(len, twins))
        assert torch.allclose(policy.nll(shared), policy.nll(collate(twins)), rtol=1e-5)
        policy.exact = replace(policy.exact, head=None)
        assert torch.allclose(policy.logits(batch), wanted, atol=1e-5)
    if method == "prompt":
        policy.exact = replace(policy.exact, packs=False, shares=False)
        policy.model.set_attn_implementation("eager")
        with torch.no_grad():
            assert torch.allclose(policy.logits(batch), wanted, atol=1e-5)


def lively(name: str) -> CausalPolicy:
    """A policy whose rows answer to what stands before them."""
    wider = {"sliding_window": 48} if name == "gemma3" else {}
    model = random_causal({**tiny.CONFIGS[name], "tie_word_embeddings": False, **wider}, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0 if parameter.ndim == 2 else 1.0)
    policy = policy_of(model)
    assert isinstance(policy, CausalPolicy)
    return policy


def greedy(policy: CausalPolicy, prompt: list[int], count: int) -> list[int]:
    """Tokens without any cache: a whole forward pass for each."""
    ids = list(prompt)
    for _ in range(count):
        row = Rendered(np.asarray([*ids, 0], np.int32), np.ones(len(ids) + 1, np.float32), 0)
        with torch.no_grad():
            ids.append(int(policy.logits(collate([row]))[-1].argmax()))
    return ids[len(prompt) :]


@both
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("tokens", [5, 70])
def test_tokens_are_the_same_with_a_cache_and_without(
    method: str, name: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slots (with a trunk, where there are many virtual tokens), in padded batches, and by whole forward passes."""
    policy, module = lively(name), registry.component("method", method)
    module.attach(policy, module.Options(tokens=tokens), seed=1)
    policy.eval()
    prompts = [row.ids.tolist() for row in tiny.rows(7, seed=2, longest=30)]
    wanted = [greedy(policy, prompt, 6) for prompt in prompts]

    def answers(batch: int) -> list[list[int]]:
        made = LocalGenerator(policy, frozenset(), 2, lambda ids: ",".join(map(str, ids)), batch)
        found = {index: text for index, text, _ in made.generate(prompts, max_new_tokens=6)}
        return [[int(token) for token in found[index].split(",")] for index in range(len(prompts))]

    assert answers(3) == wanted
    monkeypatch.setattr(local, "obstacle", lambda policy: "asked for")
    assert answers(3) == wanted
    with policy.reference():
        assert answers(3) != wanted


def test_a_network_makes_the_prefix_and_is_not_saved(tmp_path: Path) -> None:
    base = tiny.save_folder(tmp_path / "base")
    policy = load(resolve(str(base), tmp_path))
    prefix = registry.component("method", "prefix")
    prefix.attach(policy, prefix.Options(tokens=4, projection=12), seed=1)
    assert len(policy.trainable()) == 5
    tiny.train(policy, tiny.rows(12), tmp_path / "steps", epochs=1)
    policy.eval()
    save_model(policy, tmp_path / "out", base=base, files=[], template="x", facts={"base": str(base)})
    again = load(resolve(str(tmp_path / "out"), tmp_path))
    batch = collate(ROWS)
    with torch.no_grad():
        assert torch.allclose(again.logits(batch), policy.logits(batch), atol=1e-6)
    plain = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    theirs = PeftModel.from_pretrained(plain, str(tmp_path / "out")).eval()
    row = ROWS[0]
    with torch.no_grad():
        logits = theirs(input_ids=torch.from_numpy(row.ids).long()[None]).logits[0]
        assert torch.allclose(again.logits(collate([row])), logits[collate([row]).at], atol=1e-5)


def test_a_prefix_begins_as_what_the_model_makes_of_words() -> None:
    """Behind the prefix as it begins, logits are those behind the words themselves."""
    policy = attached("prefix", tokens=6, seed=3)
    words = np.random.default_rng(3).integers(0, tiny.VOCABULARY, 6)
    row = ROWS[0]
    longer = replace(
        row,
        ids=np.concatenate([words, row.ids]).astype(np.int32),
        weight=np.concatenate([np.zeros(6, np.float32), row.weight]),
    )
    with torch.no_grad():
        ours = policy.logits(collate([row]))
        with policy.reference():
            assert torch.allclose(policy.logits(collate([longer])), ours, atol=1e-5)


def test_a_batch_is_led_by_its_places() -> None:
    batch = collate(ROWS[:2])
    once, each = (lead(batch, torch.tensor([300, 301]), share=share) for share in (True, False))
    assert once.batch.lengths == (2, *batch.lengths)
    assert once.batch.continues == (-1, 0, 0)
    assert each.batch.lengths == tuple(length + 2 for length in batch.lengths)
    for led in (once, each):
        assert torch.equal(led.batch.ids[0, led.own], batch.ids[0])
        assert torch.equal(led.batch.position[0, led.own], batch.position[0] + 2)
        assert torch.equal(led.batch.ids[0, led.places], 300 + led.which)
        assert torch.equal(led.batch.position[0, led.places], led.which)
        assert torch.equal(led.batch.ids[0, led.batch.at], batch.ids[0, batch.at])
        assert torch.equal(led.batch.ids[0, led.batch.last], batch.ids[0, batch.last])


def test_a_model_it_is_not_exact_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny.policy()
    policy.exact = replace(policy.exact, packs=False)
    prefix = registry.component("method", "prefix")
    with pytest.raises(ModelError, match="M127"):
        prefix.attach(policy, prefix.Options(), seed=1)
    policy = tiny.policy()
    monkeypatch.setattr("sartor.models.virtual.Given.put", lambda given, layer, key, value: (key, value))
    with pytest.raises(ModelError, match=r"M127.*differ"):
        prefix.attach(policy, prefix.Options(), seed=1)
