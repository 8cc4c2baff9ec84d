"""Batches in sizes that come again: filled up with tokens that no row sees.

For products in bf16 on a CPU oneDNN compiles a kernel for every size it meets, which takes ten milliseconds, and keeps the
last thousand of them, about a megabyte each, strewn over the heap. Ragged batches hardly have one size twice: training a
small model grew by nine megabytes a step. Filling costs one token in 60, more where there are few.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from sartor.tokens.batch import Batch

LEAST = 32
"""Counts are rounded to a multiple of this, two tiles of rows, or of more:"""
PARTS = 4
"""between a power of two and the next there are at most 2 ** PARTS sizes."""


def compiled(kind: torch.dtype, device: torch.device) -> bool:
    """Whether products of this type cost a kernel for every size there."""
    return kind == torch.bfloat16 and device.type == "cpu"


def rounded(count: int) -> int:
    """The next count, of tokens or places, that is used again and again."""
    step = max(LEAST, 1 << max(0, count.bit_length() - 1 - PARTS))
    return -(-count // step) * step


def lengthened(x: torch.Tensor) -> torch.Tensor:
    """[n, ...] -> the same with zeros behind, up to such a count."""
    more = rounded(len(x)) - len(x)
    return torch.cat([x, x.new_zeros(more, *x.shape[1:])]) if more else x


def filled(batch: Batch) -> Batch:
    """The batch with one more segment where its count of tokens is not such a one. It belongs to no row and all its positions
    are 0, so that it may be longer than the model's window."""
    more = rounded(batch.tokens) - batch.tokens
    if not more:
        return batch
    return replace(
        batch,
        ids=torch.nn.functional.pad(batch.ids, (0, more)),
        position=torch.nn.functional.pad(batch.position, (0, more)),
        lengths=(*batch.lengths, more),
        continues=(*batch.continues, -1) if batch.continues else (),
    )
