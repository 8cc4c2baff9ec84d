"""Speed of the three matrix products of a linear layer in bf16, by tokens: forward, gradient of the input, gradient of the weight.

    python benchmarks/products.py [--threads N] [--repeats N] [--json]

The layers are those of a 135M model (hidden 576, feed-forward 1,536). The gradient of the weight adds up over tokens, so both of its
factors lie across the direction that the product reads; `transposed` is the same product after its first factor has been laid out the
other way, and counts the copying. `in fp32` is what training needs: the product and its rounding to fp32; `ours` is the same by the
compiled kernel, where this CPU has tiles. Contenders take turns; best of the repeats, in processor time with one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

import torch

from sartor.models.native import ops

LAYERS = ((576, 1536), (1536, 576), (576, 576), (576, 192))
TOKENS = (512, 1024, 2048, 4096)
NAMES = ("forward", "input gradient", "weight gradient", "transposed", "in fp32", "ours")


def best(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of the fastest of each one's repeats, after one that is not counted."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, taken in zip(works, times, strict=True):
            began = clock()
            work()
            taken.append(clock() - began)
    return [min(taken[1:]) for taken in times]


def measure(inputs: int, outputs: int, tokens: int, repeats: int) -> dict[str, float]:
    """TFLOP/s of each product."""
    weight = torch.randn(outputs, inputs).bfloat16()
    x, gradient = torch.randn(tokens, inputs).bfloat16(), torch.randn(tokens, outputs).bfloat16()
    made = [
        torch.empty(shape, dtype=torch.bfloat16) for shape in ((tokens, outputs), (tokens, inputs), (outputs, inputs))
    ]
    across = torch.empty(outputs, tokens, dtype=torch.bfloat16)
    works = (
        lambda: torch.mm(x, weight.t(), out=made[0]),
        lambda: torch.mm(gradient, weight, out=made[1]),
        lambda: torch.mm(gradient.t(), x, out=made[2]),
        lambda: torch.mm(across.copy_(gradient.t()), x, out=made[2]),
        lambda: torch.mm(gradient.t(), x).float(),
        *([lambda: ops.weight_gradient(gradient, x)] if ops.tiled(gradient, x) else []),
    )
    operations = 2 * tokens * inputs * outputs
    return {name: operations / taken / 1e12 for name, taken in zip(NAMES, best(works, repeats), strict=False)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = [
        {"inputs": inputs, "outputs": outputs, "tokens": tokens, **measure(inputs, outputs, tokens, asked.repeats)}
        for inputs, outputs in LAYERS
        for tokens in TOKENS
    ]
    if asked.json:
        print(json.dumps({"torch": torch.__version__, "threads": asked.threads, "tflops": found}, indent=1))
        return
    print("TFLOP/s".ljust(24) + "".join(f"{name:>18}" for name in NAMES))
    for entry in found:
        head = f"{entry['inputs']} -> {entry['outputs']}, {entry['tokens']:,}"
        print(head.ljust(24) + "".join(f"{entry[name]:18.2f}" for name in NAMES if name in entry))


if __name__ == "__main__":
    main()
