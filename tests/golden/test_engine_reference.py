"""The engine against independent references, in fp32."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tiny import assert_close, gradients

from sartor.engine.loop import Plan, fit
from sartor.engine.schedules import cosine
from sartor.events import Stepped
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import collate
from sartor.tokens.source import StepSize, TokenSource


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_packed_loss_and_gradients_equal_row_by_row(name):
    rows = tiny.rows(9)
    policy = tiny.policy(name)
    assert policy.exact.packs
    loss, gradient = gradients(policy, [collate(rows)])
    reference_loss, reference = gradients(policy, [collate([row]) for row in rows])
    assert loss == pytest.approx(reference_loss, rel=1e-5)
    assert_close(gradient, reference)


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_loss_and_gradients_equal_transformers_own(name):
    rows = tiny.rows(5)
    policy = tiny.policy(name)
    loss, gradient = gradients(policy, [collate(rows)])

    policy.model.zero_grad()
    policy.model.set_attn_implementation("eager")
    weight = sum(float(row.weight[1:].sum()) for row in rows)
    total = 0.0
    for row in rows:
        ids = torch.from_numpy(row.ids.astype(np.int64))[None]
        for place in np.flatnonzero(row.weight[1:]) + 1:
            labels = torch.full_like(ids, -100)
            labels[0, place] = ids[0, place]
            one = policy.model(input_ids=ids, labels=labels).loss * float(row.weight[place])
            one.backward()
            total += float(one.detach())
    reference = {key: p.grad / weight for key, p in policy.model.named_parameters()}
    assert loss == pytest.approx(total / weight, rel=1e-5)
    assert_close(gradient, reference)


def test_nll_in_chunks_equals_whole_softmax(monkeypatch):
    from sartor.models import head

    monkeypatch.setattr(head, "CHUNK_NUMBERS", 7 * tiny.VOCABULARY)
    policy, batch = tiny.policy(), collate(tiny.rows(6))
    policy.model.requires_grad_(True)
    logits = policy.logits(batch)
    expected = (torch.nn.functional.cross_entropy(logits, batch.target, reduction="none") * batch.weight).sum()
    assert float(policy.nll(batch).detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert torch.allclose(-policy.logp(batch) @ batch.weight, expected, rtol=1e-6)


@pytest.mark.parametrize(("size", "micro"), [(16, None), (16, 40), (16, 10_000)])
def test_micro_batches_do_not_change_the_step(tmp_path, size, micro):
    """16 x 1 equals 1 x 16, with ragged lengths: one optimiser step from the same start."""
    start = tiny.policy()
    start.model.requires_grad_(True)
    after = {}
    for label, tokens in (("reference", 10_000), ("tested", micro)):
        policy = tiny.policy()
        policy.model.requires_grad_(True)
        tiny.train(policy, tiny.rows(16), tmp_path / label, examples=size, micro_tokens=tokens, epochs=1, rate=1e-3)
        after[label] = tiny.weights(policy)
    moved = max(float((after["reference"][n] - w).abs().max()) for n, w in tiny.weights(start).items())
    for name, tensor in after["reference"].items():
        assert float((after["tested"][name] - tensor).abs().max()) <= 1e-2 * moved, name


def load_example():
    path = Path(__file__).parents[2] / "examples" / "minimal_sft.py"
    spec = importlib.util.spec_from_file_location("minimal_sft", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_the_minimal_example_gives_the_engines_curve(tmp_path, name):
    example, rows = load_example(), tiny.rows(20)
    plain = tiny.policy(name, seed=5).model.float()
    plain.set_attn_implementation("eager")
    plain.requires_grad_(True)
    pairs = [(row.ids.tolist(), row.weight.tolist()) for row in rows]
    expected = example.train(plain, pairs, size=8, epochs=3, peak=3e-3, seed=3)

    policy = tiny.policy(name, seed=5)
    policy.model.requires_grad_(True)
    settings = cosine.Options()
    events = fit(
        policy,
        tiny.objective,
        TokenSource(tiny.Rows(rows), size=StepSize(examples=8), micro_tokens=50, seed=3, epochs=3),
        tiny.updater(policy, rate=3e-3),
        Plan(3, lambda step, steps: cosine.factor(step, steps, settings), validate_every=99, save_every=99),
        validate=None,
        watchers=[],
        checkpoints=Checkpoints(tmp_path, lambda note: None),
    )
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[-1] < losses[0]
