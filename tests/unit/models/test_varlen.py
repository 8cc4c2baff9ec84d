"""Which kernel computes attention where, and what each of them is given, as far as that can be shown without a GPU."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from sartor.models import attention, probe, varlen
from sartor.models.attention import How, attend_rows
from sartor.models.bounds import Layout, RowBounds
from sartor.models.varlen import Choice, Heads, Machine, choose, machine

LENGTHS, CONTINUES = (9, 5, 13, 4, 1, 7), (-1, 0, 1, 0, -1, 4)
HOW = How(dropout=0.0, scaling=0.3, window=None, softcap=None)
GPU = Machine(cuda=True, capability=(9, 0), varlen=True, compiles=True)
BF16 = Heads(torch.bfloat16, 64, 64)


def how(**changes):
    return How(**{"dropout": 0.0, "scaling": 0.3, "window": None, "softcap": None, **changes})


@pytest.mark.parametrize(
    ("have", "heads", "asked", "name", "why"),
    [
        (Machine(cuda=False), BF16, how(), "rows", "no CUDA"),
        (GPU, BF16, how(), "varlen", "one call"),
        (GPU, BF16, how(window=16), "varlen", "one call"),
        (GPU, Heads(torch.float32, 64, 64), how(), "rows", "float32"),
        (GPU, Heads(torch.bfloat16, 320, 320), how(), "rows", "320"),
        (GPU, Heads(torch.bfloat16, 60, 60), how(), "rows", "60"),
        (GPU, Heads(torch.bfloat16, 192, 128), how(), "rows", "192 and 128"),
        (GPU, BF16, how(softcap=50.0), "flex", "compiled"),
        (GPU, BF16, how(dropout=0.1), "rows", "no kernel"),
        (GPU, BF16, how(dropout=0.1, softcap=5.0), "rows", "no kernel"),
        (Machine(True, (9, 0), False, True), BF16, how(), "flex", "compiled"),
        (Machine(True, (7, 5), True, True), BF16, how(), "flex", "compiled"),
        (Machine(True, (7, 5), True, False), BF16, how(), "rows", "no kernel"),
    ],
)
def test_the_kernel_follows_the_machine_and_the_model(have, heads, asked, name, why):
    choice = choose(have, heads, asked)
    assert choice.name == name
    assert why in choice.reason


def test_a_processor_has_no_gpu_kernels():
    assert machine(torch.device("cpu")) == Machine(cuda=False)
    assert tiny.policy().exact.attention == "rows (no CUDA device)"


def tensors(seed=0, heads=4, keys=2, size=8, requires_grad=False):
    draw = torch.Generator().manual_seed(seed)
    total = sum(LENGTHS)
    return [
        torch.randn(total, count, size, generator=draw, requires_grad=requires_grad) for count in (heads, keys, keys)
    ]


def rows(q, k, v, asked):
    """What the row by row path gives: [T, H, D]."""
    bounds = RowBounds()
    bounds.set(LENGTHS, torch.device("cpu"), CONTINUES)
    options = {"scaling": asked.scaling, "sliding_window": asked.window, "softcap": asked.softcap}
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return attend_rows(torch.nn.Module(), q, k, v, None, row_bounds=bounds, **options)[0][0]


@pytest.mark.parametrize("asked", [how(), how(window=6), how(softcap=2.0), how(window=6, softcap=2.0)])
def test_flex_attention_with_our_mask_equals_row_by_row(asked):
    q, k, v = tensors()
    layout = Layout(LENGTHS, CONTINUES, torch.device("cpu"))
    out = varlen.flex(q, k, v, layout, asked, run=flex_attention, make=create_block_mask)
    assert torch.allclose(out, rows(q, k, v, asked), atol=1e-5)
    assert list(layout.masks) == [asked.window]


def reference(q, k, v, cu_q, cu_k, asked):
    """Variable-length attention as FlashAttention defines it: causal, aligned to the last query and the last key."""
    parts = []
    for a, b, c, d in zip(cu_q, cu_q[1:], cu_k, cu_k[1:], strict=False):
        queries, keys, values = q[a:b], *(x[c:d].repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
        scores = torch.einsum("qhd,khd->hqk", queries, keys) * asked.scaling
        behind = torch.arange(d - c - (b - a), d - c)[:, None] - torch.arange(d - c)
        seen = (behind >= 0) & (behind < (asked.window or d))
        parts.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, float("-inf")).softmax(-1), values))
    return torch.cat(parts)


@pytest.mark.parametrize("window", [None, 6])
def test_cumulative_lengths_describe_the_same_attention(window):
    q, k, v = tensors()
    bounds, asked = Layout(LENGTHS, CONTINUES, torch.device("cpu")).cumulative, how(window=window)
    keys, values = (x.index_select(0, bounds.take) for x in (k, v))
    out = reference(q, keys, values, bounds.queries.tolist(), bounds.keys.tolist(), asked)
    assert torch.allclose(out, rows(q, k, v, asked), atol=1e-5)
    assert (bounds.longest_query, bounds.longest_key) == (13, 27)
    assert Layout((3, 4), (-1, -1), torch.device("cpu")).cumulative.take is None


@pytest.mark.parametrize(("window", "passed"), [(None, (-1, 0)), (6, (5, 0))])
def test_varlen_is_called_as_this_pytorch_wants_it(window, passed, monkeypatch):
    if not varlen._knows_varlen():
        pytest.skip("this PyTorch has no torch.nn.attention.varlen")
    import torch.nn.attention.varlen as module

    seen, own = {}, module.varlen_attn
    monkeypatch.setattr(module, "varlen_attn", lambda *a, **named: seen.update(named) or own(*a, **named))
    q, k, v = (x.to("meta", torch.bfloat16).requires_grad_() for x in tensors())
    layout = Layout(LENGTHS, CONTINUES, torch.device("meta"))
    out = varlen.attend("varlen", q, k, v, layout, how(window=window))
    assert out.shape == q.shape
    out.sum().backward()
    assert k.grad.shape == k.shape
    assert seen == {"scale": 0.3, "window_size": passed, "enable_gqa": True}


def test_a_kernel_that_is_not_exact_is_switched_off_and_said(monkeypatch):
    monkeypatch.setattr(attention, "choose", lambda *_: Choice("varlen", "one call for all rows"))
    monkeypatch.setattr(attention, "attend", lambda name, q, k, v, layout, asked: torch.zeros_like(q))
    policy = tiny.policy()
    assert policy.exact.packs
    assert policy.exact.attention == "rows (a kernel for packed rows was not exact)"
    assert policy.exact.notes == ("the attention kernel varlen is not exact here; rows are computed one by one",)


def test_an_exact_kernel_is_kept(monkeypatch):
    def by_flex(name, q, k, v, layout, asked):
        return varlen.flex(q, k, v, layout, asked, run=flex_attention, make=create_block_mask)

    monkeypatch.setattr(attention, "choose", lambda *_: Choice("flex", "tested"))
    monkeypatch.setattr(attention, "attend", by_flex)
    exact = tiny.policy("gemma3").exact
    assert (exact.packs, exact.shares, exact.attention, exact.notes) == (True, True, "flex (tested)", ())
    assert max(exact.packing_error, exact.sharing_error) < probe.TOLERANCE[torch.float32]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("name", ["varlen", "flex"])
def test_kernels_of_the_gpu_equal_row_by_row(name, window):
    device, asked = torch.device("cuda"), how(window=window)
    q, k, v = (x.detach().to(device, torch.bfloat16).requires_grad_() for x in tensors(size=64))
    slope = torch.randn_like(q)
    varlen.attend(name, q, k, v, Layout(LENGTHS, CONTINUES, device), asked).backward(slope)
    found = [x.grad.float().cpu() for x in (q, k, v)]
    plain = [x.detach().float().cpu().requires_grad_() for x in (q, k, v)]
    rows(*plain, asked).backward(slope.float().cpu())
    for ours, theirs in zip(found, plain, strict=True):
        assert (ours - theirs.grad).norm() < 2e-2 * theirs.grad.norm()
