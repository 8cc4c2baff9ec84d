"""The probe measures; it never trusts a name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from sartor.models.head import Shape
from sartor.tokens.batch import collate, collate_shared

OTHERS = {
    "gemma2": ({"model_type": "gemma2", "head_dim": 8, "sliding_window": 4}, True, Shape(softcap=30.0)),
    "cohere": ({"model_type": "cohere"}, True, Shape(scale=0.0625)),
    "granite": ({"model_type": "granite", "logits_scaling": 4.0}, True, Shape(scale=0.25)),
    "gpt_oss": (
        {"model_type": "gpt_oss", "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
        False,
        Shape(),
    ),
}


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_the_known_architectures_are_exact(name):
    exact = tiny.policy(name).exact
    assert exact.packs
    assert exact.head == Shape()
    assert max(exact.packing_error, exact.head_error) < 1e-5


@pytest.mark.parametrize("name", OTHERS)
def test_scales_caps_and_foreign_attention_are_found(name):
    changes, packs, shape = OTHERS[name]
    policy = tiny.policy("llama", **changes)
    assert policy.exact.head == shape
    assert policy.exact.packs == packs
    assert bool(policy.exact.notes) != packs


def test_a_model_that_leaks_takes_one_row_at_a_time():
    policy = tiny.policy("gpt2", model_type="bloom", hidden_size=32, n_head=4)
    assert not policy.exact.packs
    rows = tiny.rows(3)
    together, apart = policy.logp(collate(rows)), [policy.logp(collate([row])) for row in rows]
    assert torch.equal(together, torch.cat(apart))
    hidden = policy.hidden(collate(rows))
    assert torch.equal(hidden, torch.cat([policy.hidden(collate([row])) for row in rows]))
    with pytest.raises(ValueError, match="share"):
        policy.logp(
            collate_shared([rows[0], replace(rows[0], ids=rows[0].ids[:2], weight=rows[0].weight[:2])], least=1)
        )
    row = tiny.rows(1)
    ids = torch.from_numpy(row[0].ids.astype("int64"))[None]
    own = policy.model(input_ids=ids).logits[0]
    batch = collate(row)
    assert torch.allclose(policy.logits(batch), own[batch.at], atol=1e-5)


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_changing_one_row_leaves_the_others_alone(name):
    policy, rows = tiny.policy(name), tiny.rows(5)
    before = policy.logp(collate(rows))
    first = rows[0].supervised
    rows[0].ids[:] = rows[0].ids[::-1].copy()
    after = policy.logp(collate(rows))
    assert torch.equal(before[first:], after[first:])
    assert not torch.equal(before[:first], after[:first])
