"""Attention over rows laid end to end: each row sees itself and nothing else, without a T x T mask.

Registered with transformers under `NAME` through its public attention interface, so it serves every architecture that
uses that interface. The bounds of the rows travel in one mutable object, so that compiled layers do not specialise on them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "sartor_rows"


class RowBounds:
    """Lengths of the rows of the batch in flight; empty means one row."""

    def __init__(self) -> None:
        self.lengths: tuple[int, ...] = ()


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
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row.

    query [1, heads, T, d], key and value [1, kv heads, T, d] -> [1, T, heads, d]. `attention_mask` is always None here:
    transformers builds none for an implementation it has no mask for. `softcap` follows Gemma 2 (section 2).
    """
    lengths = list(row_bounds.lengths if row_bounds and row_bounds.lengths else (query.shape[2],))
    queries, keys, values = (torch.split(x, lengths, dim=2) for x in (query, key, value))
    rows = [
        _attend(q, k, v, dropout=dropout, scaling=scaling, window=sliding_window, softcap=softcap)
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(rows, dim=2).transpose(1, 2), None


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    dropout: float,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    length = q.shape[2]
    mask = _window_mask(length, window, q.device) if window is not None and length > window else None
    if softcap is None:
        return scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
    if mask is None:
        mask = _window_mask(length, length, q.device)
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(2, 3) * (scaling if scaling is not None else q.shape[-1] ** -0.5)
    scores = softcap * torch.tanh(scores / softcap)
    shares = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1, dtype=torch.float32).to(v.dtype)
    return torch.nn.functional.dropout(shares, dropout) @ v


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """[length, length] bool: each place sees itself and the window - 1 places before it."""
    place = torch.arange(length, device=device)
    behind = place[:, None] - place[None, :]
    return (behind >= 0) & (behind < window)
