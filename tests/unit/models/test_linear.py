"""The gradient of a linear layer's weight against double precision, and what becomes of it."""

from __future__ import annotations

import pytest
import tiny
import torch

from sartor.engine.precision import Masters
from sartor.methods import full
from sartor.models.linear import LEAST, FastLinear, linear, sum_gradients
from sartor.models.native import library, ops
from sartor.options import NoOptions
from sartor.tokens.batch import collate

needs_tiles = pytest.mark.skipif(
    not getattr(library.kernels(), "attention", False), reason="this CPU has no AMX tiles for bf16"
)
SHAPES = ((1, 1, 1), (31, 5, 17), (33, 48, 64), (100, 40, 50), (512, 33, 96), (1300, 96, 31), (64, 1100, 20))
"""Tokens, outputs, inputs: whole tiles and rests, more than one task and more than one depth."""


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


@needs_tiles
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_gradient_is_that_of_double_precision(shape: tuple[int, int, int], threads: int) -> None:
    tokens, outs, ins = shape
    draw = torch.Generator().manual_seed(0)
    slope, x = (torch.randn(tokens, width + 7, generator=draw).bfloat16()[:, 3:-4] for width in (outs, ins))
    wanted, before, start = slope.double().T @ x.double(), torch.get_num_threads(), torch.randn(outs, ins)
    torch.set_num_threads(threads)
    try:
        alone, added = ops.weight_gradient(slope, x), ops.weight_gradient(slope, x, start.clone())
    finally:
        torch.set_num_threads(before)
    assert apart(alone, wanted) < 1e-6
    assert apart(added, wanted + start) < 1e-6
    assert torch.equal(alone, ops.weight_gradient(slope, x))


@needs_tiles
def test_no_tokens_have_no_gradient() -> None:
    slope, x = torch.empty(0, 4).bfloat16(), torch.empty(0, 6).bfloat16()
    assert torch.equal(ops.weight_gradient(slope, x), torch.zeros(4, 6))


@needs_tiles
@pytest.mark.parametrize("biased", [True, False])
def test_a_layer_differentiates_as_pytorch_does(biased: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    x, weight, slope = (torch.randn(shape, generator=draw).bfloat16() for shape in ((2, 45, 24), (40, 24), (2, 45, 40)))
    bias = torch.randn(40, generator=draw).bfloat16() if biased else None
    found = []
    for kind, function in ((torch.bfloat16, linear), (torch.float64, torch.nn.functional.linear)):
        leaves = [None if each is None else each.to(kind, copy=True).requires_grad_() for each in (x, weight, bias)]
        out = function(*leaves)
        out.backward(slope.to(kind))
        found.append([out.detach(), *(leaf.grad for leaf in leaves if leaf is not None)])
    assert all(apart(ours, theirs) < 5e-3 for ours, theirs in zip(*found, strict=True))


@needs_tiles
def test_gradients_reach_the_masters_without_being_rounded() -> None:
    layer = torch.nn.Linear(24, 40, bias=False).bfloat16()
    model = torch.nn.Sequential(layer)
    assert [sum_gradients(model), sum_gradients(model)] == [1, 0]
    masters = Masters(dict(model.named_parameters()))
    x, slope = torch.randn(LEAST, 24).bfloat16(), torch.randn(LEAST, 40).bfloat16()
    masters.backward((model(x) * slope).sum(dtype=torch.float32))
    found = masters.masters["0.weight"].grad
    wanted = slope.double().T @ x.double()
    assert found is not None
    assert found.dtype == torch.float32
    assert layer.weight.grad is None
    assert apart(found, wanted) < (1e-6 if hasattr(layer.weight, "grad_dtype") else 5e-3)


@needs_tiles
def test_full_fine_tuning_takes_the_kernel_and_the_plain_one_does_not() -> None:
    for kernels in (True, False):
        policy = tiny.policy("llama", dtype=torch.bfloat16, kernels=kernels)
        full.attach(policy, NoOptions(), seed=0)
        fast = [part for part in policy.model.modules() if isinstance(part, FastLinear)]
        assert bool(fast) == kernels
        policy.nll(collate(tiny.rows(3))).backward()  # type: ignore[no-untyped-call]
        assert all(parameter.grad is not None for parameter in policy.model.parameters())


@needs_tiles
def test_the_head_sums_its_gradient_in_fp32_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from sartor.models import head

    monkeypatch.setattr(head, "CHUNK_IN_PLACE", 70 * 32)
    hidden, weight = torch.randn(300, 16).bfloat16(), torch.nn.Parameter(torch.randn(70, 16).bfloat16())
    masters, target, counts = Masters({"head": weight}), torch.randint(0, 70, (300,)), torch.rand(300)
    masters.backward(head.head_nll(hidden, weight, target, counts, native=True))
    wide = weight.detach().double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(hidden.double() @ wide.T, target, reduction="none")
    (counts.double() * loss).sum().backward()
    assert wide.grad is not None
    assert masters.masters["head"].grad is not None
    assert apart(masters.masters["head"].grad, wide.grad) < 5e-3
