"""Attention over rows laid end to end: each row sees itself and nothing else, without a T x T mask.

Registered with transformers under `NAME` through its public attention interface, so it serves every architecture that
uses that interface. Short rows of similar length are padded on the right and multiplied together, which on a CPU is several
times faster than one fused call each (`benchmarks/attention.py`): a causal row never looks to its right, so padding needs no
mask. Long rows take PyTorch's fused kernel one by one. A segment that continues another sees the keys and values of its
prefix as well, which are there once. The bounds of the rows travel in one mutable object, so that compiled layers do not
specialise on them.

T: tokens, H: query heads, K: key-value heads, D: head size, R: rows of a group, L: their padded length, P: prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from sartor.models.bounds import SHORT, Layout, Plan, RowBounds
from sartor.models.native import ops
from sartor.models.varlen import Choice, Heads, attend, choose, machine
from sartor.models.virtual import Given

NAME = "sartor_rows"
SCORES = 1 << 20
"""Scores computed at once: few enough to stay in a processor's cache from one operation to the next."""
Before = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of a prefix, [P, K, D] each."""


@dataclass(frozen=True, slots=True)
class How:
    """What an architecture asks of its attention. `softcap` follows Gemma 2 (section 2)."""

    dropout: float
    scaling: float
    window: int | None
    softcap: float | None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attend_rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    row_bounds: RowBounds | None = None,
    given: Given | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row. `given` keys and values take the place of those computed.

    query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D]. `attention_mask` is always None here: transformers builds
    none for an implementation it has no mask for.
    """
    how = How(dropout, query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    if given is not None:
        key, value = given.put(int(module.layer_idx), key, value)  # type: ignore[arg-type]
    if row_bounds is None or row_bounds.layout is None:
        return _one_row(query, key, value, how).transpose(1, 2), None
    if row_bounds.asked is not None:
        row_bounds.asked[module] = how
    flat = (query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1))
    row_bounds.chosen = _choose(*flat, row_bounds, how)
    if row_bounds.chosen.name != "rows":
        return attend(row_bounds.chosen.name, *flat, row_bounds.layout, how)[None], None
    if row_bounds.native and takes(*flat, how):
        laid = ops.rows(row_bounds.layout.lengths, row_bounds.layout.continues)
        return ops.attention(*flat, laid, scale=how.scaling, window=how.window or 0)[None], None
    return _by_plan(*flat, row_bounds.layout, how)[None], None


def _choose(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bounds: RowBounds, how: How) -> Choice:
    if not bounds.kernels:
        return Choice("rows", "a kernel for packed rows was not exact")
    return choose(machine(q.device), Heads(q.dtype, q.shape[-1], v.shape[-1]), how)


def takes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: How) -> bool:
    """Whether the compiled kernel computes this: bf16 on a CPU, nothing done to scores or shares."""
    plain = how.softcap is None and not how.dropout
    return plain and q.dtype == torch.bfloat16 and q.shape[-1] == v.shape[-1] and ops.fits(q, k, v)


def _by_plan(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, how: How) -> torch.Tensor:
    """[T, H, D], [T, K, D] twice -> [T, H, D]: short segments multiplied together, long ones by a fused call each."""
    plan = layout.plan
    sizes = [group.size for group in plan.groups]
    early = [sum(part.stop - part.start for part in prefix) for prefix in plan.prefixes]
    queries = _spread(q, plan, prefixes=False).split_with_sizes(sizes)
    keys, values = (_spread(x, plan, prefixes=True).split_with_sizes([*sizes, *early]) for x in (k, v))
    parts = []
    for place, group in enumerate(plan.groups):
        first = None if group.prefix is None else len(sizes) + group.prefix
        before = None if first is None else (keys[first], values[first])
        if group.length <= SHORT:
            rows = [x[place].view(group.rows, group.length, *x[place].shape[1:]) for x in (queries, keys, values)]
            seen = group.length + (len(before[0]) if before else 0)
            pieces = min(group.rows, -(-group.size * seen * q.shape[1] // SCORES))
            some = zip(rows[0].chunk(pieces), rows[1].chunk(pieces), rows[2].chunk(pieces), strict=True)
            parts += [_together(*one, how, before).flatten(0, 1) for one in some]
        else:
            parts.append(_alone(queries[place], keys[place], values[place], how, before))
    return _Collect.apply(torch.cat(parts), plan)  # type: ignore[no-any-return, no-untyped-call]


def _spread(x: torch.Tensor, plan: Plan, *, prefixes: bool) -> torch.Tensor:
    return _Spread.apply(x, plan, prefixes)  # type: ignore[no-any-return, no-untyped-call]


class _Spread(torch.autograd.Function):
    """[T, ...] -> [W, ...] as the plan lays it out, the prefixes after it if asked for; their gradients are added up."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, plan: Plan, prefixes: bool) -> torch.Tensor:
        ctx.plan, ctx.prefixes = plan, prefixes
        return x.index_select(0, plan.take_all if prefixes else plan.take)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (grad,), plan = grads, ctx.plan
        home = grad.index_select(0, plan.home)
        at = len(plan.take)
        for part in (part for prefix in plan.prefixes for part in prefix) if ctx.prefixes else ():
            home[part] += grad[at : at + part.stop - part.start]
            at += part.stop - part.start
        return home, None, None


class _Collect(torch.autograd.Function):
    """[W, ...] -> [T, ...]: what was computed, in the batch's order, without the padding."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, plan: Plan) -> torch.Tensor:
        ctx.plan = plan
        return x.index_select(0, plan.home)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (grad,), plan = grads, ctx.plan
        return grad.new_zeros(len(plan.take), *grad.shape[1:]).index_copy_(0, plan.home, grad), None


def _alone(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: How, before: Before | None) -> torch.Tensor:
    """[L, H, D], [L, K, D] twice -> [L, H, D]: one segment behind its prefix."""
    if before is not None:
        k, v = torch.cat([before[0], k]), torch.cat([before[1], v])
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return _one_row(q, k, v, how)[0].transpose(0, 1)


def _together(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: How, before: Before | None) -> torch.Tensor:
    """[R, L, H, D], [R, L, K, D] twice -> [R, L, H, D] with every product written out; all rows see `before`."""
    rows, length, heads, size = q.shape
    keys, early = k.shape[2], len(before[0]) if before else 0
    q = q.view(rows, length, keys, -1, size).permute(2, 0, 3, 1, 4).reshape(keys * rows, -1, size)
    k, v = (x.permute(2, 0, 1, 3).reshape(keys * rows, length, -1) for x in (k, v))
    unseen = ~_mask(length, early, how.window, q.device).repeat(heads // keys, 1)
    hidden = q.new_zeros(unseen.shape).masked_fill_(unseen, float("-inf"))
    scores = _scores(q, k, how, hidden[None, :, early:])
    if before is not None:
        far = _scores(q.view(keys, -1, size), before[0].transpose(0, 1), how, hidden[:, :early].repeat(rows, 1)[None])
        scores = torch.cat([far.view(keys * rows, -1, early), scores], dim=-1)
    shares = torch.nn.functional.dropout(scores.softmax(dim=-1), how.dropout)
    out = shares[..., early:] @ v
    if before is not None:
        out = out + (shares[..., :early].view(keys, -1, early) @ before[1].transpose(0, 1)).view(out.shape)
    return out.view(keys, rows, -1, length, v.shape[-1]).permute(1, 3, 0, 2, 4).reshape(rows, length, heads, -1)


def _scores(q: torch.Tensor, k: torch.Tensor, how: How, hidden: torch.Tensor) -> torch.Tensor:
    """[B, M, D], [B, N, D] -> [B, M, N]; `hidden` is minus infinity where a place is not seen, else zero."""
    if how.softcap is None:
        return torch.baddbmm(hidden, q, k.transpose(1, 2), alpha=how.scaling)
    return how.softcap * torch.tanh((q @ k.transpose(1, 2)) * (how.scaling / how.softcap)) + hidden


def _one_row(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: How) -> torch.Tensor:
    """[1, H, L, D], [1, K, P + L, D] twice -> [1, H, L, D] by the fused kernel."""
    length, early = q.shape[2], k.shape[2] - q.shape[2]
    if how.softcap is not None:
        k, v = k.transpose(1, 2)[0], v.transpose(1, 2)[0]
        before = (k[:early], v[:early]) if early else None
        return _together(q.transpose(1, 2), k[None, early:], v[None, early:], how, before).transpose(1, 2)
    plain = not early and (how.window is None or length <= how.window)
    mask = None if plain else _mask(length, early, how.window, q.device)
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=how.dropout, is_causal=plain, scale=how.scaling, enable_gqa=True
    )


def _mask(length: int, early: int, window: int | None, device: torch.device) -> torch.Tensor:
    """[L, P + L] bool: each place sees what comes before it and itself, at most `window` in all."""
    place = torch.arange(early + length, device=device)
    behind = place[early:, None] - place[None, :]
    return (behind >= 0) & (behind < (early + length if window is None else window))
