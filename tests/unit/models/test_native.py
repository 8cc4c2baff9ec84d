"""The compiled kernels against closed forms in double precision and PyTorch's own attention."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from tiny import CONFIGS, VOCABULARY, policy
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from sartor.models.bounds import Layout
from sartor.models.fuse import FastAttention, FastFeedForward, FastNorm
from sartor.models.hf import random_causal
from sartor.models.load import policy_of
from sartor.models.low_rank import low_rank
from sartor.models.native import library, ops
from sartor.models.probe import sample
from sartor.tokens.batch import collate

FOUND = library.kernels()
needs_kernels = pytest.mark.skipif(isinstance(FOUND, library.Missing), reason=getattr(FOUND, "why", ""))
needs_tiles = pytest.mark.skipif(not getattr(FOUND, "attention", False), reason="this CPU has no AMX tiles for bf16")
"""What a machine without them cannot show."""


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative distance in norm."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def gradients(function: object, inputs: list[torch.Tensor], slope: torch.Tensor) -> list[torch.Tensor]:
    """The output of a function and the gradients of its inputs."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    out = function(*leaves)  # type: ignore[operator]
    out.backward(slope.to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * cos[:, None] + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin[:, None]


def reference(lengths: tuple[int, ...], window: int, cos: torch.Tensor | None, sin: torch.Tensor | None) -> object:
    """Attention row by row in the type of its inputs."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if cos is not None and sin is not None:
            q, k = rotated(q, cos.to(q.dtype), sin.to(q.dtype)), rotated(k, cos.to(q.dtype), sin.to(q.dtype))
        rows = []
        for row in zip(*(x.split(list(lengths)) for x in (q, k, v)), strict=True):
            behind = torch.arange(len(row[0]))[:, None] - torch.arange(len(row[0]))
            seen = (behind >= 0) & (behind < (window or len(row[0])))
            heads = (x.transpose(0, 1)[None] for x in row)
            rows.append(scaled_dot_product_attention(*heads, attn_mask=seen, enable_gqa=True)[0].transpose(0, 1))
        return torch.cat(rows)

    return attend


@needs_tiles
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("heads", "keys", "size", "lengths", "window"),
    [
        (9, 3, 64, (1, 5, 17, 64, 65, 200, 31, 32, 33), 0),
        (6, 6, 48, (40, 129, 7), 0),
        (4, 2, 64, (200, 50, 130), 37),
        (2, 1, 128, (100, 66), 0),
        (2, 2, 16, (9, 70), 0),
    ],
)
def test_attention_is_as_near_to_exact_as_pytorchs(
    heads: int, keys: int, size: int, lengths: tuple[int, ...], window: int, turned: bool
) -> None:
    torch.manual_seed(0)
    total = sum(lengths)
    inputs = [torch.randn(total, count, size).bfloat16() for count in (heads, keys, keys)]
    slope = torch.randn(total, heads, size)
    angle = torch.rand(total, size) * 6
    cos, sin = (angle.cos().bfloat16(), angle.sin().bfloat16()) if turned else (None, None)

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return ops.attention(q, k, v, ops.rows(lengths), scale=size**-0.5, window=window, cos=cos, sin=sin)

    plain = reference(lengths, window, cos, sin)
    exact = gradients(plain, [x.double() for x in inputs], slope)
    rounded = gradients(plain, inputs, slope)
    for made, torchs, true in zip(gradients(ours, inputs, slope), rounded, exact, strict=True):
        assert apart(made, true) <= 1.1 * apart(torchs, true) + 1e-3


@needs_tiles
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("heads", "keys", "size", "lengths", "continues", "window"),
    [
        (9, 3, 64, (70, 5, 33, 64, 1, 100, 20, 40), (-1, 0, 0, 2, 2, -1, 5, -1), 0),
        (6, 6, 48, (31, 129, 7), (-1, 0, 1), 0),
        (4, 2, 64, (200, 50, 130, 9, 1), (-1, 0, 0, 1, 3), 37),
        (2, 1, 128, (300, 66, 3), (-1, 0, 0), 10),
    ],
)
def test_attention_behind_a_prefix_is_as_near_to_exact_as_pytorchs(
    heads: int, keys: int, size: int, lengths: tuple[int, ...], continues: tuple[int, ...], window: int, turned: bool
) -> None:
    torch.manual_seed(0)
    total = sum(lengths)
    inputs = [torch.randn(total, count, size).bfloat16() for count in (heads, keys, keys)]
    slope = torch.randn(total, heads, size)
    angle = torch.rand(total, size) * 6
    cos, sin = (angle.cos().bfloat16(), angle.sin().bfloat16()) if turned else (None, None)
    layout = Layout(lengths, continues, torch.device("cpu"))
    paths = [[*layout.ancestors(row), row] for row in range(len(lengths))]
    take = torch.cat([torch.arange(layout.starts[one], layout.starts[one + 1]) for path in paths for one in path])
    whole = tuple(sum(lengths[one] for one in path) for path in paths)
    ends = torch.tensor(whole).cumsum(0).tolist()
    own = torch.cat([torch.arange(end - lengths[row], end) for row, end in enumerate(ends)])
    turn = [None if x is None else x[take] for x in (cos, sin)]

    def ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        laid = ops.rows(lengths, continues)
        return ops.attention(q, k, v, laid, scale=size**-0.5, window=window, cos=cos, sin=sin)

    def plain(*x: torch.Tensor) -> torch.Tensor:
        """Every row whole, its beginning once more."""
        return reference(whole, window, *turn)(*(one[take] for one in x))[own]  # type: ignore[operator]

    exact = gradients(plain, [x.double() for x in inputs], slope)
    rounded = gradients(plain, inputs, slope)
    for made, torchs, true in zip(gradients(ours, inputs, slope), rounded, exact, strict=True):
        assert apart(made, true) <= 1.1 * apart(torchs, true) + 1e-3


@needs_tiles
def test_attention_does_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    lengths = (70, 3, 150, 20)
    inputs = [torch.randn(sum(lengths), count, 64).bfloat16() for count in (4, 2, 2)]
    threads = torch.get_num_threads()
    made = []
    for count in (1, 2):
        torch.set_num_threads(count)
        made.append(gradients(lambda *x: ops.attention(*x, ops.rows(lengths), scale=0.1), inputs, inputs[0]))
    torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*made, strict=True))


@needs_tiles
def test_the_tiles_of_other_libraries_survive() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(64, 64).bfloat16(), torch.randn(64, 64).bfloat16()
    before = a @ b
    ops.attention(*(torch.randn(40, 2, 64).bfloat16() for _ in "qkv"), ops.rows((40,)), scale=0.1)
    assert torch.equal(a @ b, before)


@needs_kernels
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_norm_is_the_closed_form(dtype: torch.dtype, most: float, offset: float) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(77, 100, dtype=dtype), torch.randn(100, dtype=dtype)]

    def plain(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * (w + offset)

    slope = torch.randn(77, 100, dtype=dtype)
    ours = gradients(lambda x, w: ops.rms_norm(x, w, offset=offset, eps=1e-5), inputs, slope)
    theirs = gradients(plain, [x.double() for x in inputs], slope)
    assert max(map(apart, ours, theirs)) < most


@needs_kernels
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_the_gate_is_the_closed_form(dtype: torch.dtype, most: float, activation: ops.Activation) -> None:
    torch.manual_seed(0)
    inputs = [4 * torch.randn(33, 100, dtype=dtype), torch.randn(33, 100, dtype=dtype)]

    def plain(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return (silu(gate) if activation == "silu" else gelu(gate, approximate="tanh")) * up

    slope = torch.randn(33, 100, dtype=dtype)
    ours = gradients(lambda g, u: ops.gated(g, u, activation), inputs, slope)
    theirs = gradients(plain, [x.double() for x in inputs], slope)
    assert max(map(apart, ours, theirs)) < most


@needs_kernels
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_the_head_is_the_closed_form(dtype: torch.dtype, most: float) -> None:
    torch.manual_seed(0)
    logits = (5 * torch.randn(31, 1001)).to(dtype)
    target, weight = torch.randint(0, 1001, (31,)), torch.rand(31)
    exact = logits.double().requires_grad_()
    loss = -weight * exact.log_softmax(1).gather(1, target[:, None])[:, 0]
    loss.sum().backward()
    made = ops.nll_(logits, target, weight)
    assert apart(made, loss.detach()) < 1e-6
    assert apart(logits, exact.grad) < most  # type: ignore[arg-type]


def test_joined_low_rank_products_are_the_separate_ones() -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(30, 20), torch.randn(30)
    inputs = [torch.randn(2, 7, 20), torch.randn(4, 20), torch.randn(30, 4)]
    slope = torch.randn(2, 7, 30)

    def plain(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, weight, bias) + (x @ a.T @ b.T) * 0.5

    ours = gradients(lambda x, a, b: low_rank(x, weight, bias, a, b, 0.5), inputs, slope)
    assert max(map(apart, ours, gradients(plain, inputs, slope))) < 1e-6


@needs_kernels
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "mistral"])
def test_a_model_is_the_same_with_kernels(family: str) -> None:
    """In fp32, where all but the attention kernel take part, and in bf16, against the plain model in fp32."""
    batch = collate(sample(VOCABULARY, (11, 5, 17, 1, 8, 40)))
    made = {}
    for kernels in (True, False):
        for dtype in (torch.float32, torch.bfloat16):
            over = policy(family, dtype=dtype, kernels=kernels)
            over.model.requires_grad_(True)
            loss = over.nll(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            made[kernels, dtype] = [loss.detach(), *(p.grad for p in over.trainable().values())]
            kinds = {kind.__mro__[1] for part in over.model.modules() if (kind := type(part)).__name__[:4] == "Fast"}
            expected = {FastNorm, FastFeedForward} | ({FastAttention} if dtype == torch.bfloat16 else set())
            assert not kernels or not getattr(FOUND, "attention", False) or expected <= kinds
    exact = made[False, torch.float32]
    assert max(map(apart, made[True, torch.float32], exact)) < 1e-5
    for ours, plain, true in zip(made[True, torch.bfloat16], made[False, torch.bfloat16], exact, strict=True):
        assert apart(ours, true) < 1.5 * apart(plain, true) + 1e-2


@needs_kernels
def test_what_computes_something_else_keeps_its_own_forward() -> None:
    model = random_causal(CONFIGS["llama"], seed=0)

    class Twice(type(model.model.norm)):  # type: ignore[misc]
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(hidden_states)  # type: ignore[no-any-return]

    model.model.norm.__class__ = Twice
    policy_of(model)
    assert type(model.model.norm) is Twice
    assert isinstance(model.model.layers[0].input_layernorm, FastNorm)


def test_without_a_compiler_plain_pytorch_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    library.kernels.cache_clear()
    monkeypatch.setattr(library, "compiler", lambda: None)
    try:
        over = policy()
    finally:
        library.kernels.cache_clear()
    assert not over.native
    assert over.computed_by == "plain PyTorch: no C++ compiler was found (g++ or clang++)"


def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library.kernels.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fails(command: list[str]) -> str:
        if "--version" in command:
            return "1"
        raise subprocess.CalledProcessError(1, command, stderr="note: a\nx.cpp:1: error: no such header\n")

    monkeypatch.setattr(library, "_run", fails)
    try:
        found = library.kernels()
    finally:
        library.kernels.cache_clear()
    assert found == library.Missing("building them failed: x.cpp:1: error: no such header")
    assert not list(tmp_path.rglob("*.so"))
