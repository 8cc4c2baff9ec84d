"""The kernels as differentiable functions of tensors. Each says what it computes; the proofs are in its tests.

T: tokens, H: query heads, K: key-value heads, D: head size, V: vocabulary. Tensors are bf16 or fp32 and dense, the
attention's are bf16; sums are made in fp32.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch

from sartor.models.bounds import Layout
from sartor.models.native.library import Kernels, kernels

Activation = Literal["silu", "gelu_tanh"]
_long, _float, _int = ctypes.c_int64, ctypes.c_float, ctypes.c_int


def _at(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(0 if tensor is None else tensor.data_ptr())


def _library() -> ctypes.CDLL:
    found = kernels()
    assert isinstance(found, Kernels), "ask `kernels()` first"
    return found.library


def fits(*tensors: torch.Tensor) -> bool:
    """Whether the kernels take these: on a CPU, all bf16 or all fp32, and not inside torch.compile."""
    kind = tensors[0].dtype
    return (
        kind in (torch.bfloat16, torch.float32)
        and all(tensor.dtype == kind and tensor.device.type == "cpu" for tensor in tensors)
        and not torch.compiler.is_compiling()
    )


def _wide(tensor: torch.Tensor) -> ctypes.c_int:
    return _int(tensor.dtype == torch.float32)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, offset: float, eps: float) -> torch.Tensor:
        x = x.contiguous()
        size = x.shape[-1]
        tokens = x.numel() // size
        out, inverse = torch.empty_like(x), torch.empty(tokens, dtype=torch.float32)
        _library().sartor_norm_forward(
            _wide(x),
            _long(tokens),
            _long(size),
            _at(x),
            _at(weight),
            _float(offset),
            _float(eps),
            _at(out),
            _at(inverse),
        )
        ctx.save_for_backward(x, weight, inverse)
        ctx.offset = offset
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        slope = grads[0].contiguous()
        out = torch.empty_like(x)
        summed = torch.empty(x.shape[-1], dtype=torch.float32) if ctx.needs_input_grad[1] else None
        _library().sartor_norm_backward(
            _wide(x),
            _long(inverse.numel()),
            _long(x.shape[-1]),
            _at(x),
            _at(weight),
            _float(ctx.offset),
            _at(inverse),
            _at(slope),
            _at(out),
            _at(summed),
        )
        return out, None if summed is None else summed.to(weight.dtype), None, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, *, offset: float, eps: float) -> torch.Tensor:
    """[..., D] -> x / sqrt(mean(x^2) + eps) * (weight + offset), Zhang and Sennrich 2019, equation 4."""
    return _Norm.apply(x, weight, offset, eps)  # type: ignore[no-any-return, no-untyped-call]


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, gelu: bool) -> torch.Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        out = torch.empty_like(gate)
        _library().sartor_gated_forward(_wide(gate), _int(gelu), _long(gate.numel()), _at(gate), _at(up), _at(out))
        ctx.save_for_backward(gate, up)
        ctx.gelu = gelu
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        slope = grads[0].contiguous()
        to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
        _library().sartor_gated_backward(
            _wide(gate),
            _int(ctx.gelu),
            _long(gate.numel()),
            _at(gate),
            _at(up),
            _at(slope),
            _at(to_gate),
            _at(to_up),
        )
        return to_gate, to_up, None


def gated(gate: torch.Tensor, up: torch.Tensor, activation: Activation) -> torch.Tensor:
    """activation(gate) * up, Shazeer 2020, "GLU Variants Improve Transformer", equations 5 and 6."""
    return _Gated.apply(gate, up, activation == "gelu_tanh")  # type: ignore[no-any-return, no-untyped-call]


def nll_(logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[N, V], [N] int64, [N] fp32 -> [N] fp32 losses -weight log softmax(logits)[target].

    The logits are overwritten by the gradient of the losses' sum: weight (softmax - onehot).
    """
    loss = torch.empty(len(logits), dtype=torch.float32)
    _library().sartor_nll(
        _wide(logits), _long(len(logits)), _long(logits.shape[1]), _at(logits), _at(target), _at(weight), _at(loss)
    )
    return loss


def tiled(*tensors: torch.Tensor) -> bool:
    """Whether the kernels on AMX tiles take these: bf16, and a CPU that has tiles."""
    found = kernels()
    return isinstance(found, Kernels) and found.attention and tensors[0].dtype == torch.bfloat16 and fits(*tensors)


def weight_gradient(slope: torch.Tensor, x: torch.Tensor, into: torch.Tensor | None = None) -> torch.Tensor:
    """[T, O], [T, I], bf16 -> [O, I] fp32, slope^T x; added to `into`, dense and fp32, where that is given."""
    slope, x = (part if part.stride(1) == 1 else part.contiguous() for part in (slope, x))
    shape = slope.shape[1], x.shape[1]
    if not len(x):
        return torch.zeros(shape, dtype=torch.float32) if into is None else into
    made = torch.empty(shape, dtype=torch.float32) if into is None else into
    _library().sartor_weight_gradient(
        _long(len(x)),
        _long(shape[0]),
        _long(shape[1]),
        _at(slope),
        _long(slope.stride(0)),
        _at(x),
        _long(x.stride(0)),
        _at(made),
        _int(into is not None),
    )
    return made


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What rows continue: P places that stand behind the T places of the rows, once for each beginning that is shared."""

    take: torch.Tensor
    """[P] places in T"""
    parts: tuple[tuple[slice, ...], ...]
    """The same as stretches of T, for each beginning"""
    rows: tuple[int, ...]
    """How many rows continue each of them"""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows laid end to end, [R] int32 each: where a row begins, its length, and the rows' indices, longest first.

    `early` places from `before` on come before a row; its gradients of them go to the places from `spill` on.
    """

    start: torch.Tensor
    length: torch.Tensor
    order: torch.Tensor
    before: torch.Tensor
    early: torch.Tensor
    spill: torch.Tensor
    tokens: int
    spilt: int
    prefixes: Prefixes | None


@lru_cache(maxsize=64)
def rows(lengths: tuple[int, ...], continues: tuple[int, ...] = ()) -> Rows:
    """From the lengths of the rows, and for each the row whose places (and those of the rows before that) it sees, or -1."""
    layout = Layout(lengths, continues or (-1,) * len(lengths), torch.device("cpu"))
    length = torch.tensor(lengths, dtype=torch.int32)
    start = torch.tensor(layout.starts[:-1], dtype=torch.int32)
    before, early, spill = (torch.zeros(len(lengths), dtype=torch.int32) for _ in range(3))
    taken, parts, counts, place, spilt = [], [], [], layout.starts[-1], layout.starts[-1]
    for parent in sorted({parent for parent in layout.continues if parent >= 0}):
        path = [*layout.ancestors(parent), parent]
        members = [row for row, other in enumerate(layout.continues) if other == parent]
        size = sum(lengths[one] for one in path)
        for row in members:
            before[row], early[row], spill[row] = place, size, spilt
            spilt += size
        place += size
        parts.append(tuple(slice(layout.starts[one], layout.starts[one + 1]) for one in path))
        taken += [torch.arange(part.start, part.stop) for part in parts[-1]]
        counts.append(len(members))
    prefixes = Prefixes(torch.cat(taken), tuple(parts), tuple(counts)) if taken else None
    order = torch.argsort(length + early, descending=True, stable=True).to(torch.int32)
    return Rows(start, length, order, before, early, spill, layout.starts[-1], spilt - layout.starts[-1], prefixes)


def _with_prefixes(x: torch.Tensor, laid: Rows) -> torch.Tensor:
    """[T, ...] -> [T + P, ...]."""
    return x if laid.prefixes is None else torch.cat([x, x.index_select(0, laid.prefixes.take)])


def _gathered(grad: torch.Tensor, laid: Rows) -> torch.Tensor:
    """[T + spilt, ...] -> [T, ...]: what rows found for their prefixes is added to the places these are made of."""
    if laid.prefixes is None:
        return grad
    own, at = grad[: laid.tokens], laid.tokens
    for parts, count in zip(laid.prefixes.parts, laid.prefixes.rows, strict=True):
        size = sum(part.stop - part.start for part in parts)
        found = grad[at : at + count * size].view(count, size, *grad.shape[1:]).sum(0, dtype=torch.float32)
        at, done = at + count * size, 0
        for part in parts:
            own[part] += found[done : done + part.stop - part.start]
            done += part.stop - part.start
    return own


class _Call(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("start", "length", "order", "before", "early", "spill")]
        + [(name, ctypes.c_void_p) for name in ("q", "k", "v", "cos", "sin", "out", "grad")]
        + [(name, ctypes.c_void_p) for name in ("dq", "dk", "dv", "lse")]
        + [(f"{name}_{step}", _long) for name in ("q", "k", "v", "grad") for step in ("token", "head")]
        + [("total", _long)]
        + [(name, ctypes.c_int32) for name in ("count", "heads", "kv_heads", "size", "window")]
        + [("scale", _float)]
    )


def _dense(x: torch.Tensor) -> torch.Tensor:
    return x if x.stride(2) == 1 else x.contiguous()


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cos: torch.Tensor | None,
        sin: torch.Tensor | None,
        laid: Rows,
        scale: float,
        window: int,
    ) -> torch.Tensor:
        q, k, v = _dense(q), _dense(k), _dense(v)
        tokens, heads, size = q.shape
        out = torch.empty((tokens, heads, size), dtype=q.dtype)
        lse = torch.empty((heads, tokens), dtype=torch.float32)
        ctx.save_for_backward(q, k, v, cos, sin, out, lse)
        ctx.laid, ctx.scale, ctx.window = laid, scale, window
        k, v = _with_prefixes(k, laid), _with_prefixes(v, laid)
        turn = None if cos is None or sin is None else (_with_prefixes(cos, laid), _with_prefixes(sin, laid))
        call = _attention_call(q, k, v, turn, out=out, lse=lse, laid=laid, scale=scale, window=window)
        _library().sartor_attention_forward(ctypes.byref(call))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, cos, sin, out, lse = ctx.saved_tensors
        grad = _dense(grads[0])
        laid: Rows = ctx.laid
        dq = torch.empty(q.shape, dtype=q.dtype)
        dk, dv = (torch.empty((laid.tokens + laid.spilt, *x.shape[1:]), dtype=x.dtype) for x in (k, v))
        k, v = _with_prefixes(k, laid), _with_prefixes(v, laid)
        turn = None if cos is None or sin is None else (_with_prefixes(cos, laid), _with_prefixes(sin, laid))
        call = _attention_call(q, k, v, turn, out=out, lse=lse, laid=laid, scale=ctx.scale, window=ctx.window)
        call.grad, call.grad_token, call.grad_head = grad.data_ptr(), grad.stride(0), grad.stride(1)
        call.dq, call.dk, call.dv = (x.data_ptr() for x in (dq, dk, dv))
        _library().sartor_attention_backward(ctypes.byref(call))
        return dq, _gathered(dk, laid), _gathered(dv, laid), None, None, None, None, None


def _attention_call(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    turn: tuple[torch.Tensor, torch.Tensor] | None,
    *,
    out: torch.Tensor,
    lse: torch.Tensor,
    laid: Rows,
    scale: float,
    window: int,
) -> _Call:
    places = {
        "start": laid.start,
        "length": laid.length,
        "order": laid.order,
        "before": laid.before,
        "early": laid.early,
        "spill": laid.spill,
        "q": q,
        "k": k,
        "v": v,
        "out": out,
        "lse": lse,
    }
    call = _Call(**{name: tensor.data_ptr() for name, tensor in places.items()})
    if turn is not None:
        call.cos, call.sin = (x.data_ptr() for x in turn)
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        setattr(call, f"{name}_token", tensor.stride(0))
        setattr(call, f"{name}_head", tensor.stride(1))
    call.count, call.total, call.window, call.scale = len(laid.length), laid.tokens, window, scale
    call.heads, call.kv_heads, call.size = q.shape[1], k.shape[1], q.shape[2]
    return call


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    laid: Rows,
    *,
    scale: float,
    window: int = 0,
    cos: torch.Tensor | None = None,
    sin: torch.Tensor | None = None,
) -> torch.Tensor:
    """[T, H, D], [T, K, D] twice -> [T, H, D]: causal attention within each row and to what it continues.

    A place sees at most `window` places, itself included (0: all).

    With `cos` and `sin` [T, D] queries and keys are rotated first (Su et al. 2021, halves turned against each other).
    """
    return _Attention.apply(q, k, v, cos, sin, laid, scale, window)  # type: ignore[no-any-return, no-untyped-call]
