"""The compiled attention of generation against the same written out."""

from __future__ import annotations

import pytest
import torch

from sartor.models.native.decode import SIZES, decode, takes
from sartor.models.native.library import Missing, kernels

pytestmark = pytest.mark.skipif(isinstance(kernels(), Missing), reason="no compiled kernels on this machine")
ENDS = (1, 15, 16, 17, 40)


def written_out(q, keys, values, *, scale, window, softcap):
    count, heads, _ = q.shape
    rows, sums = [], []
    for slot in range(count):
        end = ENDS[slot]
        begin = max(0, end - window) if window else 0
        k, v = (x[slot, begin:end].float().repeat_interleave(heads // x.shape[2], dim=1) for x in (keys, values))
        scores = torch.einsum("hd,phd->hp", q[slot].float(), k) * scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        sums.append(scores.logsumexp(dim=1))
        rows.append(torch.einsum("hp,phd->hd", scores.softmax(dim=1), v))
    return torch.stack(rows), torch.stack(sums)


@pytest.mark.parametrize("size", sorted(SIZES))
@pytest.mark.parametrize(("groups", "window", "softcap"), [(1, 0, 0.0), (2, 5, 0.0), (3, 0, 4.0), (7, 16, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernel_gives_what_is_written_out(size, groups, window, softcap, dtype) -> None:
    draw = torch.Generator().manual_seed(size + groups)
    keys, values = (torch.randn(7, 48, 2, size, generator=draw).to(dtype) for _ in range(2))
    q = torch.randn(2 * groups, len(ENDS), size, generator=draw).to(dtype).transpose(0, 1)
    for slot, end in enumerate(ENDS):
        keys[slot, end:] = float("nan")
        values[slot, end:] = float("nan")
    assert takes(keys, values)
    ours, total = decode(q, keys, values, torch.tensor(ENDS), scale=size**-0.5, window=window, softcap=softcap)
    wanted, wanted_total = written_out(q, keys, values, scale=size**-0.5, window=window, softcap=softcap)
    torch.testing.assert_close(ours.float(), wanted, rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)
    torch.testing.assert_close(total, wanted_total, rtol=0, atol=1e-4)


def test_other_head_sizes_are_refused() -> None:
    keys = torch.zeros(1, 2, 1, 24)
    assert not takes(keys, keys)
    assert not takes(keys.double(), keys.double())
    with pytest.raises(ValueError, match="heads of 24"):
        decode(torch.zeros(1, 1, 24), keys, keys, torch.ones(1, dtype=torch.int64), scale=1.0)
