"""Attention over short rows: one fused call per row against rows padded and multiplied together, forward and backward.

python benchmarks/attention.py [--json] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from sartor.models.attention import attend_rows
from sartor.models.bounds import SHORT, RowBounds

HEADS, KEYS, SIZE = 4, 2, 64
CASES = [(64, 30), (32, 60), (16, 120), (15, 128)]


def timed(work: Callable[[], None], repeats: int = 7) -> float:
    """Median seconds."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure(rows: int, length: int, dtype: torch.dtype) -> tuple[float, float]:
    """(seconds row by row, seconds together)."""
    total = rows * length
    q = torch.randn(1, HEADS, total, SIZE, dtype=dtype, requires_grad=True)
    k, v = (torch.randn(1, KEYS, total, SIZE, dtype=dtype, requires_grad=True) for _ in range(2))
    slope = torch.randn(1, total, HEADS, SIZE, dtype=dtype)
    module = torch.nn.Module()
    together = RowBounds()
    together.set((length,) * rows, torch.device("cpu"))

    def apart() -> None:
        for start in range(0, total, length):
            part = slice(start, start + length)
            out, _ = attend_rows(module, q[:, :, part], k[:, :, part], v[:, :, part], None)
            out.backward(slope[:, part])

    def packed() -> None:
        out, _ = attend_rows(module, q, k, v, None, row_bounds=together)
        out.backward(slope)

    return timed(apart), timed(packed)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        for rows, length in CASES:
            assert length <= SHORT
            apart, packed = measure(rows, length, dtype)
            case = {"dtype": str(dtype).removeprefix("torch."), "rows": rows, "length": length}
            results.append({**case, "apart": apart, "together": packed, "ratio_together_to_apart": apart / packed})
    if options.json:
        print(json.dumps({"torch": torch.__version__, "threads": options.threads, "cases": results}, indent=1))
        return
    for case in results:
        print(
            f"{case['dtype']:>9} {case['rows']:3} rows of {case['length']:3}   row by row {1e3 * case['apart']:7.1f} ms"
            f"   together {1e3 * case['together']:7.1f} ms   {case['ratio_together_to_apart']:.1f} times faster"
        )


if __name__ == "__main__":
    main()
