"""Filling up changes sizes and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch

from sartor.models.filler import filled, lengthened, rounded
from sartor.models.head import head_nll
from sartor.models.policy import CausalPolicy
from sartor.objectives import sft
from sartor.tokens.batch import Batch, collate, collate_shared


def narrow(name: str) -> CausalPolicy:
    return tiny.policy(name, dtype=torch.bfloat16)


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def seen(policy: CausalPolicy, batch: Batch) -> int:
    """How many tokens the model computes for a batch."""
    counts: list[int] = []
    hook = policy.model.get_input_embeddings().register_forward_hook(lambda _, args, out: counts.append(out.shape[1]))
    assert policy.hidden(batch).shape[0] == batch.tokens
    hook.remove()
    return counts[0]


def test_few_sizes_serve_all_counts() -> None:
    for count in range(1, 20_000, 7):
        assert rounded(rounded(count)) == rounded(count)
        assert count <= rounded(count) <= count + max(31, count // 16)
    assert len({rounded(count) for count in range(2049, 4097)}) <= 16


@pytest.mark.parametrize("name", sorted(tiny.CONFIGS))
def test_rows_do_not_notice_what_stands_behind_them(name: str) -> None:
    policy, rows = narrow(name), tiny.rows(5)
    wide = tiny.policy(name)
    wide.model.load_state_dict(policy.model.state_dict())
    for batch in (collate(rows), collate_shared([rows[0], replace(rows[0], row=9), rows[2]], least=1)):
        assert batch.tokens != rounded(batch.tokens) == seen(policy, batch)
        assert seen(wide, batch) == batch.tokens
        assert apart(policy.hidden(batch), wide.hidden(batch)) < 2e-2
        whole, own = filled(batch), policy.hidden(batch)
        tail = replace(whole, ids=whole.ids.clone())
        tail.ids[:, batch.tokens :] = 5
        assert torch.equal(policy.hidden(tail)[: batch.tokens], own)


def test_the_gradient_of_a_filled_batch_is_that_of_its_rows() -> None:
    policy, wide = narrow("llama"), tiny.policy("llama")
    wide.model.load_state_dict(policy.model.state_dict())
    batch = collate(tiny.rows(5))
    found = []
    for one in (policy, wide):
        one.model.requires_grad_(True)
        sft.loss(one, batch, sft.Options()).total.backward()  # type: ignore[no-untyped-call]
        found.append(torch.cat([parameter.grad.float().flatten() for parameter in one.model.parameters()]))
    assert apart(*found) < 4e-2


def test_the_filler_may_be_longer_than_the_window() -> None:
    batch = collate(tiny.rows(5))
    whole = filled(batch)
    assert torch.equal(whole.position[:, : batch.tokens], batch.position)
    assert not whole.position[:, batch.tokens :].any()


@pytest.mark.parametrize("native", [True, False])
def test_places_that_fill_up_the_head_carry_no_loss(native: bool) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(45, 16).bfloat16(), torch.randn(70, 16).bfloat16()
    target, counts = torch.randint(0, 70, (45,)), torch.rand(45)
    found = []
    for kind in (torch.bfloat16, torch.float64):
        h, w = (x.to(kind, copy=True).requires_grad_() for x in (hidden, weight))
        if kind == torch.bfloat16:
            loss = head_nll(h, w, target, counts, native=native and tiny.policy("llama").native)
        else:
            loss = (counts.double() * torch.nn.functional.cross_entropy(h @ w.T, target, reduction="none")).sum()
        loss.backward()
        found.append((loss.detach(), h.grad, w.grad))
    assert all(apart(ours, theirs) < 1e-2 for ours, theirs in zip(*found, strict=True))  # type: ignore[arg-type]


def test_zeros_stand_behind() -> None:
    x = torch.ones(33, 2)
    assert torch.equal(lengthened(x), torch.cat([x, torch.zeros(31, 2)]))
    assert lengthened(x[:32]).data_ptr() == x.data_ptr()
