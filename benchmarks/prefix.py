"""Beginnings that rows share, computed once against computed for every row: training pairs, few-shot likelihood, training
rows behind one system prompt, labels.

python benchmarks/prefix.py [--json] [--threads N] [--shape 15m|135m] [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from sartor.models.hf import random_causal
from sartor.models.load import policy_of
from sartor.models.policy import CausalPolicy
from sartor.tokens.batch import Rendered, collate, collate_shared

SHAPES = {
    "15m": {"vocab_size": 32_000, "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6,
            "num_attention_heads": 6, "num_key_value_heads": 6},
    "135m": {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1_536, "num_hidden_layers": 30,
             "num_attention_heads": 9, "num_key_value_heads": 3},
}  # fmt: skip
TOKENS = 4096
"""Tokens of one forward pass when every row is whole."""
Groups = Sequence[tuple[int, Sequence[int]]]
"""(tokens of the prompt, tokens of each answer)"""
CASES: dict[str, tuple[bool, Groups]] = {
    "pairs: prompt 300, answers 60": (True, [(300, (60, 60))] * 6),
    "pairs: prompt 60, answers 200": (True, [(60, (200, 200))] * 8),
    "groups of 8 samples: prompt 200, answers 100": (True, [(200, (100,) * 8)] * 2),
    "training rows of 120 behind a system prompt of 60": (True, [(60, (120,) * 22)]),
    "training rows of 120 behind a system prompt of 300": (True, [(300, (120,) * 10)]),
    "few-shot likelihood: prefix 400, rows 60": (False, [(400, (60,) * 64)]),
    "20 labels of 4 tokens after prompts of 150": (False, [(150, (4,) * 20)] * 4),
}


def build(shape: str) -> CausalPolicy:
    """A probed bf16 policy over random weights."""
    config = {"model_type": "llama", "tie_word_embeddings": True, "max_position_embeddings": 2048, **SHAPES[shape]}
    policy = policy_of(random_causal(config, seed=0).to(torch.bfloat16))
    assert policy.exact.shares
    return policy


def rows_of(groups: Groups, vocabulary: int) -> list[Rendered]:
    """Rows of random tokens with loss on the answers."""
    draw = np.random.default_rng(0)
    made = []
    for prompt, answers in groups:
        start = draw.integers(0, vocabulary, prompt)
        for answer in answers:
            weight = np.repeat(np.float32([0, 1]), [prompt, answer])
            ids = np.concatenate([start, draw.integers(0, vocabulary, answer)]).astype(np.int32)
            made.append(Rendered(ids, weight, len(made)))
    return made


def measure(policy: CausalPolicy, train: bool, rows: list[Rendered], repeats: int) -> tuple[float, float]:
    """(seconds with whole rows, seconds with shared beginnings), medians of alternating runs; making batches included."""

    def whole() -> None:
        room, batch = TOKENS, []
        for row in [*rows, None]:
            if row is None or len(row) > room:
                step(collate(batch))
                room, batch = TOKENS, []
            if row is not None:
                batch.append(row)
                room -= len(row)

    def shared() -> None:
        step(collate_shared(rows))

    def step(batch: object) -> None:
        if train:
            policy.nll(batch).backward()
            policy.model.zero_grad()
        else:
            with torch.no_grad():
                policy.logp(batch)

    policy.model.requires_grad_(train)
    return alternating([whole, shared], repeats)


def alternating(works: Sequence[Callable[[], None]], repeats: int) -> tuple[float, float]:
    """Median seconds of each."""
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, found in zip(works, seconds, strict=True):
            began = time.perf_counter()
            work()
            if turn:
                found.append(time.perf_counter() - began)
    first, second = map(statistics.median, seconds)
    return first, second


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--shape", choices=SHAPES, default="15m")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    policy, results = build(options.shape), []
    for name, (train, groups) in CASES.items():
        rows = rows_of(groups, policy.vocabulary)
        whole, shared = measure(policy, train, rows, options.repeats)
        tokens = sum(map(len, rows)), collate_shared(rows).tokens
        case = {"case": name, "tokens_whole": tokens[0], "tokens_shared": tokens[1], "whole": whole, "shared": shared}
        results.append({**case, "ratio_whole_to_shared": whole / shared})
        if not options.json:
            print(
                f"{name:52} tokens {tokens[0]:6,} -> {tokens[1]:6,} ({tokens[0] / tokens[1]:4.1f} x)"
                f"   {1e3 * whole:7.0f} -> {1e3 * shared:6.0f} ms   {whole / shared:4.2f} times faster",
                flush=True,
            )
    if options.json:
        settings = {"torch": torch.__version__, "threads": options.threads, "shape": options.shape}
        print(json.dumps({**settings, "cases": results}, indent=1))


if __name__ == "__main__":
    main()
