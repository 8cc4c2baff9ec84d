"""Attention for generation: rows that go on and rows that join share one flat forward pass, without padding.

The tokens of a pass lie end to end: first the prompts of joining rows without their last token, then one token for every slot.
Each layer writes the new keys and values into the slots, copies what a joining row has in common with another, and attends:
prompts within themselves, like packed training rows; the last tokens over what their slots hold, each to its own end, with the
query heads that share a key side by side instead of repeated keys. The trunk, which all rows begin with, is attended to by all
of them in one product, and both parts are put together by the sums of their exponentials (Milakov and Gimelshein 2018,
arXiv:1805.02867).

`register` makes it known to transformers under `SLOTS` through the public attention interface, so it serves every architecture
that uses that interface; `generate/probe.py` measures whether it is exact.

T: tokens of the pass, N: slots in use, P: places looked at, H: query heads, K: key-value heads, G = H / K, D: head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from sartor.generate.slots import Chunk, Layer, Slots
from sartor.models.attention import attend_rows
from sartor.models.native.decode import decode, takes

SLOTS = "sartor_slots"
NOTHING = -1e30
"""Stands for the logarithm of an empty sum, where -inf would make differences undefined."""
WithSum = tuple[torch.Tensor, torch.Tensor]
"""What attention gives, and the logarithm of the sum of exp(score) that it was divided by (fp32, without the last axis)."""


@dataclass(frozen=True, slots=True)
class _How:
    scaling: float
    window: int | None
    softcap: float | None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def attend_slots(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    slots: Slots,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, H, T, D], key and value [1, K, T, D] -> [1, T, H, D].

    `attention_mask` is always None here: transformers builds none for an implementation it has no mask for. Dropout does not
    exist: nobody generates while training.
    """
    index = int(module.layer_idx)  # type: ignore[arg-type]
    slots.windows[index] = sliding_window
    how = _How(query.shape[-1] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    if slots.given is not None:
        key, value = slots.given.put(index, key, value)
    layer = slots.layer(index, key, value)
    if slots.laying:
        layer.trunk = (key[0].transpose(0, 1).contiguous(), value[0].transpose(0, 1).contiguous())
        return _fresh(module, query, key, value, slots, how), None
    layer.clear(slots.used)
    for buffer, new in ((layer.keys, key), (layer.values, value)):
        buffer.view(-1, *buffer.shape[2:]).index_copy_(0, slots.write, new[0].transpose(0, 1))
    for copy in slots.copies:
        layer.copy(copy)
    parts = []
    if fresh := slots.fresh_tokens:
        parts.append(_fresh(module, query[:, :, :fresh], key[:, :, :fresh], value[:, :, :fresh], slots, how))
    parts += [_chunk(query, layer, chunk, how) for chunk in slots.chunks]
    parts.append(_last(query[0, :, -len(slots.ends) :].transpose(0, 1), layer, slots, how)[None])
    return (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]), None


def _fresh(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, slots: Slots, how: _How
) -> torch.Tensor:
    """Prompts that have nothing before them -> [1, L, H, D]."""
    out: torch.Tensor = attend_rows(
        module,
        query,
        key,
        value,
        None,
        scaling=how.scaling,
        sliding_window=how.window,
        softcap=how.softcap,
        row_bounds=slots.fresh,
    )[0]
    return out


def _chunk(query: torch.Tensor, layer: Layer, chunk: Chunk, how: _How) -> torch.Tensor:
    """The end of one prompt over the trunk and all of its slot -> [1, L, H, D]."""
    heads, groups = query.shape[1], query.shape[1] // layer.keys.shape[2]
    held = (layer.keys[chunk.slot, : chunk.end], layer.values[chunk.slot, : chunk.end])
    keys, values = (torch.cat(pair).transpose(0, 1)[None] for pair in zip(layer.trunk, held, strict=True))
    asked = query[:, :, chunk.start : chunk.start + chunk.length]
    asked = asked.reshape(1, -1, groups * chunk.length, query.shape[-1])
    place = torch.arange(keys.shape[2], device=query.device)
    behind = place[-chunk.length :, None] - place
    seen = (behind >= 0) & (behind < (len(place) if how.window is None else how.window))
    mask = torch.zeros(seen.shape, device=query.device).masked_fill_(~seen, float("-inf")).repeat(groups, 1)
    out = _attend(asked, keys, values, mask, how)
    return out.view(1, heads, chunk.length, -1).transpose(1, 2)


def _last(last: torch.Tensor, layer: Layer, slots: Slots, how: _How) -> torch.Tensor:
    """[N, H, D], the last token of every slot, over the trunk and what the slots hold -> [N, H, D]."""
    if slots.native and takes(layer.keys, layer.values):
        window, softcap = how.window or 0, how.softcap or 0.0
        own = decode(last, layer.keys, layer.values, slots.ends, scale=how.scaling, window=window, softcap=softcap)
    else:
        count, heads, _ = last.shape
        keys, values = (x[:count, : slots.used].transpose(1, 2) for x in (layer.keys, layer.values))
        asked, mask = last.reshape(count, keys.shape[1], -1, last.shape[2]), slots.mask(how.window)[:, None, None]
        if not slots.trunk:
            return _attend(asked, keys, values, mask, how).reshape(count, heads, -1)
        out, total = _written_out(asked, keys, values, mask, how)
        own = out.reshape(count, heads, -1), total.reshape(count, heads)
    return _joined(own, _trunk(last, layer, slots, how)) if slots.trunk else own[0]


def _trunk(last: torch.Tensor, layer: Layer, slots: Slots, how: _How) -> WithSum:
    """[N, H, D] over the trunk: one product for each key-value head."""
    keys, values = (x.transpose(0, 1) for x in layer.trunk)
    count, heads, size = last.shape
    asked = last.reshape(count, len(keys), -1, size).transpose(0, 1).flatten(1, 2)
    mask = None if how.window is None else slots.trunk_mask(how.window).repeat_interleave(heads // len(keys), dim=0)
    out, total = _written_out(asked, keys, values, mask, how)
    out = out.view(len(keys), count, -1, out.shape[-1]).transpose(0, 1).reshape(count, heads, -1)
    return out, total.view(len(keys), count, -1).transpose(0, 1).reshape(count, heads)


def _joined(one: WithSum, other: WithSum) -> torch.Tensor:
    """Attention over two sets of places from that over each."""
    share = torch.sigmoid(other[1] - one[1])[..., None]
    return torch.lerp(one[0].float(), other[0].float(), share).to(one[0].dtype)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, how: _How) -> torch.Tensor:
    """[N, K, L, D], [N, K, P, D] twice and a mask to be added -> [N, K, L, D]."""
    if how.softcap is not None:
        return _written_out(q, k, v, mask, how)[0]
    mask = mask.to(q.dtype).view(-1, 1, *mask.shape[-2:])
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=how.scaling)


def _written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, how: _How) -> WithSum:
    """[..., L, D], [..., P, D] twice -> [..., L, D] and [..., L]; `softcap` follows Gemma 2 (section 2)."""
    scores = (q @ k.transpose(-1, -2)).float() * how.scaling
    if how.softcap is not None:
        scores = how.softcap * torch.tanh(scores / how.softcap)
    if mask is not None:
        scores = scores + mask
    total = scores.logsumexp(dim=-1, keepdim=True).clamp_min(NOTHING)
    return (scores - total).exp().to(v.dtype) @ v, total[..., 0]


def register() -> None:
    """Make `SLOTS` known to transformers, whose import is slow."""
    from transformers import AttentionInterface

    AttentionInterface.register(SLOTS, attend_slots)
