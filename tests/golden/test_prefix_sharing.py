"""Rows that share a computed beginning against the same rows each by itself, in fp32: logits, losses, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from tiny import assert_close, gradients

from sartor.methods import lora
from sartor.models import bounds
from sartor.tokens.batch import Rendered, collate, collate_shared
from sartor.tokens.source import StepSize, TokenSource

GEMMA2 = {"model_type": "gemma2", "head_dim": 8, "sliding_window": 4}


def family(seed=0, prompt=40, answers=(7, 12, 30, 0), groups=3, loss_on_prompt=False):
    """Rows of several groups. All begin with 20 tokens, those of a group with 40; one row of a group is its prompt alone."""
    draw = np.random.default_rng(seed)
    system = draw.integers(3, tiny.VOCABULARY, prompt // 2)
    made = []
    for _ in range(groups):
        start = np.concatenate([system, draw.integers(3, tiny.VOCABULARY, prompt // 2)])
        for length in answers:
            ids = np.concatenate([start, draw.integers(3, tiny.VOCABULARY, length)]).astype(np.int32)
            weight = draw.random(len(ids)).astype(np.float32)
            if not loss_on_prompt:
                weight[:prompt] = 0
            made.append(Rendered(ids, weight, len(made)))
    return made


def policies():
    return [*tiny.CONFIGS, "gemma2"]


def made(name, **options):
    return tiny.policy("llama", **GEMMA2, **options) if name == "gemma2" else tiny.policy(name, **options)


@pytest.mark.parametrize("name", policies())
@pytest.mark.parametrize("short", [bounds.SHORT, 8], ids=["together", "by one call each"])
def test_gradients_of_all_weights_equal_whole_rows(name, short, monkeypatch):
    monkeypatch.setattr(bounds, "SHORT", short)
    policy, rows = made(name), family(loss_on_prompt=True)
    assert policy.exact.shares
    assert policy.exact.sharing_error < 1e-5
    expected_loss, expected = gradients(policy, [collate([row]) for row in rows])
    for batch in (collate_shared(rows), collate_shared(rows, merge=True)):
        assert batch.tokens < 0.5 * sum(map(len, rows))
        loss, gradient = gradients(policy, [batch])
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert_close(gradient, expected)


def preference(policy, batch, pairs):
    """A pairwise loss as preference objectives have it: -log sigmoid of the difference of two rows' log-probabilities."""
    sums = torch.zeros(len(batch.rows)).index_add(0, batch.row, policy.logp(batch) * batch.weight)
    chosen, rejected = sums[[a for a, _ in pairs]], sums[[b for _, b in pairs]]
    return -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).sum()


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_pairs_have_the_gradients_of_separate_rows(name, method):
    policy = made(name)
    if method == "lora":
        lora.attach(policy, lora.Options(rank=4), seed=1)
        for key, parameter in policy.trainable().items():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.1)
    else:
        policy.model.requires_grad_(True)
    policy.eval()
    rows = family(answers=(14, 9), groups=4, loss_on_prompt=True)
    pairs = [(n, n + 1) for n in range(0, len(rows), 2)]
    found = []
    for batch in (collate(rows), collate_shared(rows)):
        policy.model.zero_grad()
        loss = preference(policy, batch, pairs)
        loss.backward()
        found.append((float(loss.detach()), {key: p.grad.clone() for key, p in policy.trainable().items()}))
    (expected_loss, expected), (loss, gradient) = found
    assert batch.tokens < 0.6 * sum(map(len, rows))
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert_close(gradient, expected)


def test_training_rows_behind_one_system_prompt_give_the_same_step():
    policy, rows = tiny.policy(), family(groups=6, loss_on_prompt=True)
    options = {"size": StepSize(examples=12), "micro_tokens": 200, "seed": 3}
    whole, shared = (TokenSource(tiny.Rows(rows), **options, share=share).take() for share in (False, True))
    assert (whole.rows, whole.tokens, whole.supervised) == (shared.rows, shared.tokens, shared.supervised)
    assert all(batch.tokens <= 200 for batch in shared.batches)
    assert sum(batch.tokens for batch in shared.batches) < 0.6 * whole.tokens
    expected_loss, expected = gradients(policy, whole.batches)
    loss, gradient = gradients(policy, shared.batches)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert_close(gradient, expected)


def test_dropout_is_noticed():
    policy = tiny.policy("gpt2", attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    assert not policy.drops
    assert tiny.policy("gpt2").drops
    assert tiny.policy("llama", attention_dropout=0.1).drops
    lora.attach(policy, lora.Options(rank=4, dropout=0.1), seed=1)
    assert policy.drops


def test_a_row_sees_its_own_beginning_and_nothing_of_its_siblings():
    policy, rows = tiny.policy(), family(answers=(7, 12))
    before = policy.logp(collate_shared(rows))
    changed = [Rendered(row.ids.copy(), row.weight, row.row) for row in rows]
    changed[0].ids[-1] = 3 + (changed[0].ids[-1] + 1) % 200
    batch = collate_shared(changed)
    after = policy.logp(batch)
    assert torch.equal(before[batch.row != 0], after[batch.row != 0])
    assert not torch.equal(before[batch.row == 0], after[batch.row == 0])
    for row in changed:
        row.ids[10] += 1
    moved = policy.logp(collate_shared(changed)) - after
    assert all(moved[batch.row == row].abs().max() > 1e-4 for row in range(len(rows)))


def test_a_model_that_cannot_share_says_so():
    policy = tiny.policy()
    policy.exact = type(policy.exact)(packs=True, head=policy.exact.head)
    with pytest.raises(ValueError, match="share the beginnings"):
        policy.logp(collate_shared(family()))
