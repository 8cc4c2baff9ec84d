"""Predicted against measured peak memory of training, each shape in its own process.

python benchmarks/memory.py [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One training step to measure."""

    hidden: int
    layers: int
    tokens: int
    row: int
    dtype: str
    method: str
    checkpointed: bool


CASES = [
    Case(256, 6, 2048, 64, "bfloat16", "lora", False),
    Case(256, 6, 8192, 64, "bfloat16", "lora", False),
    Case(256, 6, 8192, 64, "float32", "lora", False),
    Case(256, 6, 8192, 1024, "bfloat16", "full", False),
    Case(256, 6, 8192, 1024, "float32", "full", False),
    Case(512, 12, 4096, 512, "bfloat16", "full", False),
    Case(512, 12, 4096, 512, "bfloat16", "lora", False),
    Case(512, 12, 4096, 512, "bfloat16", "lora", True),
    Case(512, 12, 8192, 512, "bfloat16", "full", True),
]


def config(case: Case) -> dict[str, Any]:
    """A Llama of the case's shape."""
    return {
        "model_type": "llama",
        "vocab_size": 8192,
        "hidden_size": case.hidden,
        "intermediate_size": case.hidden * 8 // 3,
        "num_hidden_layers": case.layers,
        "num_attention_heads": case.hidden // 64,
        "num_key_value_heads": case.hidden // 128,
        "tie_word_embeddings": True,
    }


def measure(case: Case) -> dict[str, float]:
    """Take two steps in this process; the peak of the whole process and the prediction, in MiB."""
    import numpy as np
    import torch

    from sartor import registry
    from sartor.advise import memory
    from sartor.engine.memory import peak_memory
    from sartor.engine.optimizers import adamw
    from sartor.engine.updater import Updater
    from sartor.models.attention import NAME
    from sartor.models.hf import random_causal
    from sartor.models.policy import CausalPolicy, Exactness
    from sartor.models.probe import probe
    from sartor.objectives import sft
    from sartor.tokens.batch import Rendered, collate

    model = random_causal(config(case), seed=0).to(getattr(torch, case.dtype))
    model.set_attn_implementation(NAME)
    model.requires_grad_(False)
    policy = CausalPolicy(model, device=torch.device("cpu"), exact=Exactness())
    policy.exact = probe(policy)
    method = registry.component("method", case.method)
    method.attach(policy, method.Options(), seed=0)
    if case.checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    updater = Updater(policy.trainable(), adamw, adamw.Options(), learning_rate=1e-3, clip_norm=1.0)
    draw = np.random.default_rng(0)
    rows = [
        Rendered(draw.integers(0, 8192, case.row).astype(np.int32), np.ones(case.row, np.float32), index)
        for index in range(case.tokens // case.row)
    ]
    batch = collate(rows)
    policy.train()
    for _ in range(2):
        loss = sft.loss(policy, batch, sft.Options())
        loss.total.backward()
        updater.weights.absorb()
        updater.apply(updater.norm(loss.weight), 1.0)
    parameters = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in policy.trainable().values())
    form = memory.Shape(parameters, case.layers, case.hidden, case.hidden * 8 // 3, 8192)
    predicted = memory.fixed_bytes(form, case.dtype, trainable)
    fixed = predicted
    predicted += case.tokens * memory.bytes_per_token(form, case.dtype, checkpointed=case.checkpointed)
    measured = peak_memory(policy.device)
    return {"fixed": fixed / MIB, "predicted": predicted / MIB, "measured": measured / MIB}


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(Case(**json.loads(options.case)))))
        return
    results = []
    for case in CASES:
        command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        results.append({**asdict(case), **found, "ratio_predicted_to_measured": found["predicted"] / found["measured"]})
        if not options.json:
            shown = ("hidden", "layers", "tokens", "row", "dtype", "method", "checkpointed")
            print(*(f"{results[-1][key]!s:>9}" for key in shown), end="  ")
            print(f"predicted {found['predicted']:7.0f} MiB  measured {found['measured']:7.0f} MiB", end="  ")
            print(f"ratio {results[-1]['ratio_predicted_to_measured']:.2f}", flush=True)
    if options.json:
        print(json.dumps({"cases": results}, indent=1))


if __name__ == "__main__":
    main()
