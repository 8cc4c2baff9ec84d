"""Greedy generation of answers of uneven length: Sartor's slots against transformers' `generate` with left padding.

python benchmarks/generate.py [--shape 15m 135m] [--batch 32 64] [--dtype float32 bfloat16] [--rows N] [--shared N]
                             [--repeats N] [--threads N] [--json]

Random weights; prompts and answers of log-normal length (means 64, at most 256), the same for both. Every row has its own
limit, told to `generate` by a stopping criterion, so both make the same tokens; `generate` gets the prompts sorted by
length. In fp32 equal tokens are asserted first. Sides alternate; medians. A token is one generated token.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from sartor.generate.local import LocalGenerator
from sartor.models.hf import random_causal
from sartor.models.load import policy_of
from sartor.models.policy import CausalPolicy

SHAPES: dict[str, dict[str, Any]] = {
    "15m": {"vocab_size": 32000, "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6,
            "num_attention_heads": 6, "num_key_value_heads": 6, "tie_word_embeddings": True},
    "135m": {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True},
}  # fmt: skip
MEAN, LONGEST, SPREAD = 64, 256, 0.8


class Limits(StoppingCriteria):
    """Each row of a batch is over after its own number of new tokens."""

    def __init__(self, limits: Sequence[int], prompt: int) -> None:
        self.limits, self.prompt = torch.tensor(limits), prompt

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """[B] bool: over."""
        return input_ids.shape[1] - self.prompt >= self.limits


def theirs(model: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int], batch: int) -> list[list[int]]:
    """The tokens of transformers' `generate`, batch by batch."""
    made: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            longest = max(len(prompts[index]) for index in members)
            ids = torch.zeros((len(members), longest), dtype=torch.int64)
            mask = torch.zeros_like(ids)
            for place, index in enumerate(members):
                ids[place, longest - len(prompts[index]) :] = torch.tensor(prompts[index])
                mask[place, longest - len(prompts[index]) :] = 1
            out = model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=max(limits[index] for index in members),
                stopping_criteria=StoppingCriteriaList([Limits([limits[index] for index in members], longest)]),
                pad_token_id=0,
            )
            for place, index in enumerate(members):
                made[index] = out[place, longest : longest + limits[index]].tolist()
    return made


def ours(policy: CausalPolicy, prompts: Sequence[Sequence[int]], limits: Sequence[int], batch: int) -> list[list[int]]:
    """The tokens of our generator."""
    generator = LocalGenerator(policy, frozenset(), 0, lambda ids: "", batch)
    made: list[list[int]] = [[] for _ in prompts]
    for one in generator.complete(prompts, max_new_tokens=limits):
        made[one.index] = list(one.ids)
    assert generator.obstacle is None, generator.obstacle
    return made


def lengths(draw: np.random.Generator, count: int) -> np.ndarray:
    """Log-normal, mean MEAN before they are cut at LONGEST."""
    raw = draw.lognormal(np.log(MEAN) - SPREAD**2 / 2, SPREAD, count)
    return np.clip(np.rint(raw), 2, LONGEST).astype(int)


def peak(work: Callable[[], object]) -> float:
    """MiB of resident memory that `work` needs at its peak beyond what was there before (Linux; elsewhere nan)."""
    marks, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not marks.exists():
        return float("nan")

    def kib(key: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))

    marks.write_text("5")
    before = kib("VmRSS")
    work()
    return (kib("VmHWM") - before) / 1024


def measure(shape: str, dtype: str, batch: int, rows: int, repeats: int, shared: int) -> dict[str, Any]:
    """One case: seconds of both sides, tokens, memory."""
    model = random_causal({"model_type": "llama", "max_position_embeddings": 2048, **SHAPES[shape]}, seed=0)
    model = model.to(getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = None
    policy = policy_of(copy.deepcopy(model))
    draw = np.random.default_rng(0)
    common = draw.integers(3, model.config.vocab_size, shared).tolist()
    prompts = [common + draw.integers(3, model.config.vocab_size, length).tolist() for length in lengths(draw, rows)]
    limits = [int(limit) for limit in lengths(draw, rows)]
    few = slice(0, batch + batch // 2)
    first = ours(policy, prompts[few], limits[few], batch), theirs(model, prompts[few], limits[few], batch)
    same = sum(one == other for one, other in zip(*first, strict=True))
    if dtype == "float32":
        assert same == len(first[0]), f"only {same} of {len(first[0])} rows have equal tokens"
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(policy, prompts, limits, batch),
        "theirs": lambda: theirs(model, prompts, limits, batch),
    }
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        for name, work in sides.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    memory = {name: peak(work) for name, work in sides.items()}
    return {
        "shape": shape, "dtype": dtype, "batch": batch, "rows": rows, "shared": shared,
        "tokens": sum(limits), "prompt_tokens": sum(map(len, prompts)), "rows_with_equal_tokens": same / len(first[0]),
        "seconds": medians, "tokens_per_second": {name: sum(limits) / taken for name, taken in medians.items()},
        "peak_mib": memory, "ratio_ours_to_theirs": medians["theirs"] / medians["ours"],
    }  # fmt: skip


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--batch", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--rows", type=int, default=0, help="prompts; four batches unless given")
    parser.add_argument("--shared", type=int, default=0, help="tokens that all prompts begin with, as few-shot ones do")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = []
    for shape in options.shape:
        for dtype in options.dtype:
            for batch in options.batch:
                case = measure(shape, dtype, batch, options.rows or 4 * batch, options.repeats, options.shared)
                cases.append(case)
                if not options.json:
                    speed, memory = case["tokens_per_second"], case["peak_mib"]
                    print(
                        f"{shape:>5} {dtype:>8} batch {batch:3}   ours {speed['ours']:7.0f} tokens/s, {memory['ours']:6.0f} MiB"
                        f"   transformers {speed['theirs']:7.0f} tokens/s, {memory['theirs']:6.0f} MiB"
                        f"   {case['ratio_ours_to_theirs']:.2f} times as fast",
                        flush=True,
                    )
    if options.json:
        print(json.dumps({"torch": torch.__version__, "threads": options.threads, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
