"""QLoRA against LoRA in bfloat16: memory of the base, seconds of a training step, and how far the logits move. Needs sartor[quant], but for --kind int8.

python benchmarks/quantized.py [--json] [--threads N] [--tokens N] [--steps N] [--dtype bfloat16] [--kind nf4]

A random model of 135M parameters (30 layers of 576), adapters of rank 16 on every linear layer, rows of 256 tokens. Steps
alternate between the two in one process; the numbers are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sartor.engine.optimizers import adamw
from sartor.engine.updater import Updater
from sartor.methods import lora, qlora
from sartor.models.catalog import resolve
from sartor.models.hf import random_causal
from sartor.models.load import load
from sartor.models.policy import CausalPolicy
from sartor.models.rowwise import Scales
from sartor.tokens.batch import Batch, Rendered, collate

SHAPE = {
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip
ROW = 256


def rows(tokens: int) -> Batch:
    """As many rows of 256 tokens as fit, each token scored."""
    draw = np.random.default_rng(0)
    return collate(
        [
            Rendered(draw.integers(0, SHAPE["vocab_size"], ROW).astype(np.int32), np.ones(ROW, np.float32), index)
            for index in range(tokens // ROW)
        ]
    )


def held_bytes(model: torch.nn.Module) -> int:
    """Bytes of the weights, scales of quantised ones included."""
    total = 0
    for parameter in model.parameters():
        total += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        if isinstance(state, Scales):
            total += state.rows.nbytes
        elif state is not None:
            total += state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
    return total


def step(policy: CausalPolicy, updater: Updater, batch: Batch) -> float:
    """Seconds of one training step."""
    began = time.perf_counter()
    policy.train()
    (policy.nll(batch) / len(batch.at)).backward()
    updater.weights.absorb()
    updater.apply(updater.norm(torch.tensor(1.0)), 1.0)
    return time.perf_counter() - began


def compare(folder: Path, batch: Batch, steps: int, dtype: Any, kind: Any) -> dict[str, dict[str, float]]:
    """Both methods by name."""
    found: dict[str, dict[str, float]] = {}
    made: dict[str, tuple[CausalPolicy, Updater]] = {}
    logp: dict[str, torch.Tensor] = {}
    for name, method, options in (("lora", lora, lora.Options()), ("qlora", qlora, qlora.Options(quant_type=kind))):
        held = qlora.quantization(options, dtype) if isinstance(options, qlora.Options) else None
        began = time.perf_counter()
        policy = load(resolve(str(folder), folder), dtype=dtype, quantization=held)
        seconds = time.perf_counter() - began
        with torch.no_grad():
            logp[name] = policy.logp(batch)
        found[name] = {"load_seconds": seconds, "base_bytes": held_bytes(policy.model)}
        method.attach(policy, options, seed=0)
        updater = Updater(policy.trainable(), adamw, adamw.Options(), learning_rate=1e-4, clip_norm=1.0)
        made[name] = (policy, updater)
        step(policy, updater, batch)
    seconds_of: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(steps):
        for name, (policy, updater) in made.items():
            seconds_of[name].append(step(policy, updater, batch))
    for name, each in seconds_of.items():
        found[name]["step_seconds"] = statistics.median(each)
    found["qlora"]["logp_distance"] = float((logp["qlora"] - logp["lora"]).abs().mean())
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--kind", choices=("nf4", "fp4", "int8"), default="nf4")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "base"
        random_causal(SHAPE, seed=0).save_pretrained(folder)
        found = compare(folder, rows(options.tokens), options.steps, options.dtype, options.kind)
    if options.json:
        print(json.dumps({"torch": torch.__version__, "threads": options.threads, **found}, indent=1))
        return
    for name, one in found.items():
        print(
            f"{name:<6} base {one['base_bytes'] / 2**20:6.1f} MiB   step {one['step_seconds']:6.3f} s"
            f"   loading and probing {one['load_seconds']:5.1f} s"
        )
    plain, held = found["lora"], found["qlora"]
    print(
        f"qlora holds the base in {held['base_bytes'] / plain['base_bytes']:.0%} of the memory; a step takes "
        f"{held['step_seconds'] / plain['step_seconds']:.2f} times as long; a log-probability moves by "
        f"{held['logp_distance']:.3f} on average"
    )


if __name__ == "__main__":
    main()
