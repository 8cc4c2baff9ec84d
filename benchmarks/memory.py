"""Predicted against measured peak memory of training, each case in a process of its own.

python benchmarks/memory.py [--json] [--only TEXT] [--steps N]    the table
python benchmarks/memory.py --fit [--json]                        and the values of FITTED in advise/memory.py that suit it best

Every case loads a random model from disk and trains it on ragged rows through the engine, with checkpoints, to the weights of
its best step. The measured peak is the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MIB = 1 << 20
COMMON = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
MODELS: dict[str, dict[str, Any]] = {
    "nano": {"model_type": "llama", "vocab_size": 8192, "hidden_size": 256, "intermediate_size": 688,
             "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "15M": {"model_type": "llama", "vocab_size": 32000, "hidden_size": 288, "intermediate_size": 768,
            "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 6, "tie_word_embeddings": True},
    "60M": {"model_type": "llama", "vocab_size": 32000, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 12, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True},
    "135M": {"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
             "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True},
    "gpt2": {"model_type": "gpt2", "vocab_size": 16384, "n_embd": 512, "n_layer": 8, "n_head": 8, "n_positions": 2048,
             "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
    "gemma": {"model_type": "gemma3_text", "vocab_size": 131072, "hidden_size": 320, "intermediate_size": 1024,
              "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 128,
              "tie_word_embeddings": True, "sliding_window": 512},
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One training run to measure."""

    model: str
    method: str
    dtype: str
    row: int
    """Mean length of a row in tokens; lengths are log-normal."""
    tokens: int
    """Of a micro-batch."""
    checkpointed: bool = False
    passes: int = 1
    """Micro-batches of a step."""
    optimizer: str = "adamw"
    kernels: bool = True

    def __str__(self) -> str:
        words = (self.model, self.method, self.dtype, f"row {self.row}", f"{self.tokens} tokens")
        more = ("checkpointed" * self.checkpointed, f"{self.passes} passes" * (self.passes > 1))
        plain = "plain" * (not self.kernels)
        own = self.optimizer * (self.optimizer != "adamw")
        return " ".join(word for word in (*words, *more, own, plain) if word)


CASES = [
    Case("nano", "full", "float32", 60, 8192),
    Case("nano", "full", "bfloat16", 60, 8192),
    Case("nano", "lora", "bfloat16", 60, 8192),
    Case("nano", "full", "float32", 200, 2048, passes=2),
    Case("15M", "full", "bfloat16", 60, 4096),
    Case("15M", "full", "float32", 300, 4096),
    Case("15M", "lora", "bfloat16", 1024, 8192),
    Case("15M", "full", "bfloat16", 300, 4096, kernels=False),
    Case("60M", "full", "bfloat16", 200, 2048),
    Case("60M", "full", "float32", 200, 2048, passes=2),
    Case("60M", "lora", "bfloat16", 200, 4096),
    Case("60M", "lora", "bfloat16", 200, 4096, kernels=False),
    Case("60M", "full", "bfloat16", 1024, 4096, checkpointed=True),
    Case("60M", "full", "bfloat16", 200, 2048, optimizer="lion"),
    Case("60M", "full", "bfloat16", 200, 2048, optimizer="sgd"),
    Case("60M", "full", "bfloat16", 200, 2048, optimizer="muon"),
    Case("60M", "full", "bfloat16", 200, 2048, optimizer="adafactor"),
    Case("135M", "full", "bfloat16", 200, 2048),
    Case("135M", "full", "bfloat16", 200, 4096, passes=2),
    Case("135M", "lora", "bfloat16", 200, 4096),
    Case("135M", "lora", "float32", 60, 2048),
    Case("135M", "full", "bfloat16", 1024, 8192, checkpointed=True),
    Case("gpt2", "full", "float32", 200, 2048),
    Case("gpt2", "lora", "bfloat16", 60, 4096),
    Case("gemma", "full", "bfloat16", 200, 2048),
    Case("gemma", "lora", "bfloat16", 200, 2048),
    Case("gemma", "full", "float32", 60, 2048),
]
if find_spec("bitsandbytes") is not None:
    CASES += [
        Case("135M", "qlora", "bfloat16", 200, 4096),
        Case("60M", "full", "bfloat16", 200, 2048, optimizer="adamw8bit"),
    ]


def make(case: Case, folder: Path) -> None:
    """A random model of the case in bf16, as most are stored."""
    import torch

    from sartor.models.hf import random_causal

    random_causal({**MODELS[case.model], **COMMON}, seed=0).to(torch.bfloat16).save_pretrained(folder)


def measure(case: Case, folder: Path, steps: int) -> dict[str, Any]:
    """Train in this process; what the formula needs and the peak of the whole process in bytes."""
    import numpy as np

    from sartor import registry
    from sartor.engine.loop import Plan, fit
    from sartor.engine.updater import Updater
    from sartor.engine.watchers import best
    from sartor.events import Finished
    from sartor.models.catalog import resolve
    from sartor.models.load import load
    from sartor.objectives import sft
    from sartor.store.checkpoint import Checkpoints
    from sartor.tokens.batch import Rendered
    from sartor.tokens.source import StepSize, TokenSource

    method, optimizer = registry.component("method", case.method), registry.component("optimizer", case.optimizer)
    held = method.quantization(method.Options(), case.dtype) if hasattr(method, "quantization") else None
    base = resolve(str(folder), Path("/"))
    policy = load(base, dtype=case.dtype, kernels=case.kernels, quantization=held)  # type: ignore[arg-type]
    method.attach(policy, method.Options(), seed=0)
    if case.checkpointed:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    updater = Updater(policy.trainable(), optimizer, optimizer.Options(), learning_rate=1e-4, clip_norm=1.0)
    draw = np.random.default_rng(0)
    rows, steps_tokens = [], case.tokens * case.passes
    while sum(map(len, rows)) < steps * steps_tokens:
        length = int(np.clip(case.row * np.exp(0.5 * draw.standard_normal() - 0.125), 8, min(case.tokens, 2048)))
        ids = draw.integers(3, policy.vocabulary, length).astype(np.int32)
        rows.append(Rendered(ids, (np.arange(length) > 0.4 * length).astype(np.float32), len(rows)))
    source = TokenSource(
        _Rows(rows),
        size=StepSize(tokens=steps_tokens),
        micro_tokens=case.tokens,
        seed=0,
        steps=steps,  # type: ignore[arg-type]
    )
    falling = iter(range(10**6, 0, -1))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        events = list(
            fit(
                policy,
                lambda over, batch: sft.loss(over, batch, sft.Options()),
                source,
                updater,
                Plan(seed=0, factor=lambda step, steps: 1.0, validate_every=max(1, steps // 2), save_every=steps),
                validate=lambda: {"loss": float(next(falling))},
                watchers=[best.build("loss", sign=-1.0, min_delta=0.0, patience=0)],
                checkpoints=Checkpoints(Path(scratch), lambda note: None),
            )
        )
    finished = events[-1]
    assert isinstance(finished, Finished)
    trainable = sum(p.numel() for p in policy.trainable().values())
    state = sum(tensor.nbytes for tensor in updater.state_tensors().values())
    return {
        "measured": finished.peak_memory_bytes, "trainable": trainable, "state": state, "kernels": policy.native,
        "lengths": [len(row) for row in rows], "scored": 0.6, "seconds": finished.seconds,
    }  # fmt: skip


class _Rows:
    """Rows in memory as a TokenSet gives them."""

    def __init__(self, rows: list[Any]) -> None:
        import numpy as np

        self._rows = rows
        self.lengths, self.rows = (np.asarray(each) for each in ([len(row) for row in rows], [row.row for row in rows]))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]


def predict(case: Case, folder: Path, found: dict[str, Any], fitted: Any) -> dict[str, int]:
    """The parts of the predicted peak in bytes."""
    import numpy as np

    from sartor import registry
    from sartor.advise import hardware, memory, shape
    from sartor.models.catalog import resolve

    method = registry.component("method", case.method)
    base = resolve(str(folder), Path("/"))
    form = shape.read(base.config, base.weight_files)
    job = memory.Job(
        dtype=case.dtype, trainable=found["trainable"], state=found["state"], tokens=case.tokens,
        rows=memory.Rows.of(np.asarray(found["lengths"])), scored=found["scored"],
        rank=getattr(method.Options(), "rank", 0), weight_bytes=method.weight_bytes(method.Options()) if hasattr(method, "weight_bytes") else None, passes=case.passes, checkpointed=case.checkpointed,
        kernels=found["kernels"], tiles=hardware.survey().tiles,
    )  # fmt: skip
    return dict(memory.largest(form, job, fitted).parts)


def results(cases: list[Case], steps: int) -> Iterator[tuple[Case, Path, dict[str, Any]]]:
    """Each case measured in a fresh process; models are made once."""
    with tempfile.TemporaryDirectory(prefix="sartor-memory-") as scratch:
        for case in cases:
            folder = Path(scratch) / case.model
            if not folder.exists():
                _fresh("--make", case, folder, steps)
            yield case, folder, json.loads(_fresh("--measure", case, folder, steps).splitlines()[-1])


def _fresh(what: str, case: Case, folder: Path, steps: int) -> str:
    command = [sys.executable, __file__, what, json.dumps(asdict(case)), "--folder", str(folder), "--steps", str(steps)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def best_fit(measured: list[tuple[Case, Path, dict[str, Any]]]) -> Any:
    """The values of `Fitted` with the smallest sum of squared logarithms of predicted over measured."""
    import numpy as np
    from scipy.optimize import minimize

    from sartor.advise.memory import FITTED

    def fitted(values: np.ndarray) -> Any:
        process, products = int(values[0] * MIB), int(values[1] * MIB)
        return replace(FITTED, process=process, products=products, working=float(values[2]), spare=float(values[3]))

    def off(values: np.ndarray) -> float:
        if min(values) <= 0:
            return 1e9
        totals = [sum(predict(*entry, fitted(values)).values()) for entry in measured]
        return sum(np.log(total / entry[2]["measured"]) ** 2 for total, entry in zip(totals, measured, strict=True))

    start = np.array([FITTED.process / MIB, FITTED.products / MIB, FITTED.working, FITTED.spare])
    return fitted(minimize(off, start, method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-5}).x)


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--fit", action="store_true", help="fit FITTED to what was measured")
    parser.add_argument("--only", default="", help="only cases whose line holds this text")
    parser.add_argument("--steps", type=int, default=8, help="optimiser steps of each case")
    for name in ("--make", "--measure", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(Case(**json.loads(options.make)), Path(options.folder))
        return
    if options.measure:
        print(json.dumps(measure(Case(**json.loads(options.measure)), Path(options.folder), options.steps)))
        return
    from sartor.advise.memory import FITTED

    measured, table = [], []
    chosen = [case for case in CASES if options.only in str(case)]
    for case, folder, found in results(chosen, options.steps):
        measured.append((case, folder, found))
        parts = predict(case, folder, found, FITTED)
        row = {"case": str(case), "predicted": sum(parts.values()), "measured": found["measured"], "parts": parts}
        table.append({**row, "ratio": round(row["predicted"] / row["measured"], 3), "kernels": found["kernels"]})
        if not options.json:
            print(_line(table[-1]), flush=True)
        if options.fit and case == chosen[-1]:
            fitted = best_fit(measured)
            for entry, one in zip(table, measured, strict=True):
                entry["fitted"] = sum(predict(*one, fitted).values())
            if not options.json:
                print(f"\nFITTED = {fitted}")
                print(*(f"{entry['fitted'] / entry['measured']:.2f}  {entry['case']}" for entry in table), sep="\n")
    if options.json:
        print(json.dumps({"cases": table}, indent=1))


def _line(row: dict[str, Any]) -> str:
    numbers = f"predicted {row['predicted'] / MIB:7.0f} MiB  measured {row['measured'] / MIB:7.0f} MiB"
    parts = " ".join(f"{name} {size / MIB:.0f}" for name, size in row["parts"].items() if size)
    return f"{row['case']:<58} {numbers}  ratio {row['ratio']:.2f}   {parts}"


if __name__ == "__main__":
    main()
