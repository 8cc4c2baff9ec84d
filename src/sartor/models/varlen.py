"""Attention of a whole packed batch in one call on a GPU: which kernel fits, and the calls.

None of them holds a T x T mask or asks the GPU for a number: the bounds of the rows are host integers, sent over once a
batch. Whether a kernel is exact here is measured by `models/probe.py` like everything else.

T: tokens, H: query heads, K: key-value heads, D: head size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from sartor.models.attention import How
    from sartor.models.bounds import Cumulative, Layout

Name = Literal["rows", "varlen", "flex"]
LARGEST_HEAD = 256
"""Head size up to which FlashAttention 2 has kernels."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to compute attention with."""

    cuda: bool
    capability: tuple[int, int] = (0, 0)
    varlen: bool = False
    """torch.nn.attention.varlen, with windows and grouped heads"""
    compiles: bool = False
    """Triton, which compiled flex_attention needs"""


@dataclass(frozen=True, slots=True)
class Choice:
    """A kernel and why. `rows`: plain products and fused calls, row by row."""

    name: Name
    reason: str


@dataclass(frozen=True, slots=True)
class Heads:
    """The numbers of a layer's heads: their type, and their size in queries and values."""

    dtype: torch.dtype
    size: int
    value_size: int


@lru_cache
def machine(device: torch.device) -> Machine:
    """What `device` offers."""
    if device.type != "cuda" or torch.version.hip is not None:
        return Machine(cuda=False)
    capability = torch.cuda.get_device_capability(device)
    return Machine(True, capability, _knows_varlen(), find_spec("triton") is not None)


def _knows_varlen() -> bool:
    """Whether this PyTorch has variable-length attention in the form used here (2.11 and later)."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"window_size", "enable_gqa", "scale"} <= set(inspect.signature(varlen_attn).parameters)


@lru_cache
def choose(have: Machine, heads: Heads, how: How) -> Choice:
    """The kernel for a layer."""
    if not have.cuda:
        return Choice("rows", "no CUDA device")
    if heads.dtype not in (torch.bfloat16, torch.float16):
        return Choice("rows", f"kernels for packed rows take 16-bit numbers, not {str(heads.dtype).split('.')[1]}")
    if heads.size > LARGEST_HEAD or heads.size % 8 or heads.size != heads.value_size:
        return Choice("rows", f"no kernel for heads of {heads.size} and {heads.value_size} numbers")
    bare = how.softcap is None and not how.dropout
    if have.capability >= (8, 0) and bare and have.varlen:
        return Choice("varlen", "one call for all rows")
    if not how.dropout and have.compiles:
        return Choice("flex", "one compiled call for all rows")
    return Choice("rows", "no kernel at hand for packed rows with this softcap, dropout or GPU")


def attend(name: Name, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, how: How) -> torch.Tensor:
    """[T, H, D], [T, K, D] twice -> [T, H, D] by the kernel of that name."""
    if name == "flex":
        return flex(q, k, v, layout, how, run=_compiled_flex(), make=_compiled_block_mask())
    bounds = layout.cumulative
    if bounds.take is not None:
        k, v = k.index_select(0, bounds.take), v.index_select(0, bounds.take)
    return _varlen(q, k, v, bounds, how)


def _varlen(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bounds: Cumulative, how: How) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn(  # type: ignore[return-value]
        q,
        k,
        v,
        bounds.queries,
        bounds.keys,
        bounds.longest_query,
        bounds.longest_key,
        scale=how.scaling,
        window_size=(-1 if how.window is None else how.window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )


def flex(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: Layout,
    how: How,
    *,
    run: Callable[..., Any],
    make: Callable[..., Any],
) -> torch.Tensor:
    """[T, H, D], [T, K, D] twice -> [T, H, D] by `run`, a flex_attention, with a block mask by `make`."""
    if how.window not in layout.masks:
        total = layout.starts[-1]
        layout.masks[how.window] = make(_sees(layout, how.window), None, None, total, total, device=q.device)
    cap = how.softcap

    def capped(score: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return score if cap is None else cap * torch.tanh(score / cap)

    out: torch.Tensor = run(
        *(x.transpose(0, 1)[None] for x in (q, k, v)),
        score_mod=None if cap is None else capped,
        block_mask=layout.masks[how.window],
        scale=how.scaling,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out[0].transpose(0, 1)


def _sees(layout: Layout, window: int | None) -> Callable[..., torch.Tensor]:
    """Which place sees which: places of its own segment and of those before it, not ahead of it, within the window."""
    segment, position, known = layout.visible
    reach = layout.starts[-1] if window is None else window

    def sees(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        behind = position[query] - position[key]
        return known[segment[query], segment[key]] & (behind >= 0) & (behind < reach)

    return sees


@lru_cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


@lru_cache
def _compiled_block_mask() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import create_block_mask

    return torch.compile(create_block_mask, dynamic=True)
