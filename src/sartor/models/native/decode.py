"""Attention of generation as a function of tensors: one query place of every slot over what its slot holds.

N: slots in use, P: places of a slot, H: query heads, K: key-value heads, D: head size.
"""

from __future__ import annotations

import ctypes

import torch

from sartor.models.native.library import Kernels, kernels

SIZES = frozenset({16, 32, 48, 64, 80, 96, 128, 256})
"""Head sizes there is a kernel for."""


def takes(keys: torch.Tensor, values: torch.Tensor) -> bool:
    """Whether the kernel serves keys and values [slots, P, K, D] of these kinds; ask `kernels()` first."""
    return (
        keys.device.type == "cpu"
        and keys.dtype in (torch.bfloat16, torch.float32)
        and keys.shape == values.shape
        and keys.shape[3] in SIZES
    )


class _Call(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("q", "keys", "values", "out", "lse", "ends")]
        + [(name, ctypes.c_int64) for name in ("q_slot", "q_head", "places")]
        + [(name, ctypes.c_int32) for name in ("count", "heads", "kv_heads", "size", "window")]
        + [(name, ctypes.c_float) for name in ("scale", "softcap")]
    )


def decode(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ends: torch.Tensor,
    *,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, H, D], keys [slots, P, K, D], values alike, [N] int64 -> [N, H, D] and [N, H] fp32, the logarithm of sum exp(score).

    Query n sees the places of slot n before `ends[n]`, at most `window` of them (0: all). Sums are made in fp32; a `softcap`
    bends scores as in Gemma 2 (section 2). Raises ValueError for head sizes outside `SIZES`.
    """
    found = kernels()
    assert isinstance(found, Kernels), "ask `kernels()` first"
    q = q if q.stride(2) == 1 else q.contiguous()
    out, lse = torch.empty(q.shape, dtype=q.dtype), torch.empty(q.shape[:2], dtype=torch.float32)
    call = _Call(
        *(tensor.data_ptr() for tensor in (q, keys, values, out, lse, ends)),
        q.stride(0),
        q.stride(1),
        keys.shape[1],
        q.shape[0],
        q.shape[1],
        *keys.shape[2:],
        window,
        scale,
        softcap,
    )
    if found.library.sartor_decode(ctypes.c_int(q.dtype == torch.float32), ctypes.byref(call)):
        raise ValueError(f"there is no kernel for heads of {q.shape[2]}")
    return out, lse
