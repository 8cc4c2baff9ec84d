"""Supervised fine-tuning in a hundred lines, without a framework: what Sartor's engine does, in its plainest form.

    python examples/minimal_sft.py MODEL_FOLDER rows.jsonl

`rows.jsonl` holds {"ids": [...], "weight": [...]}: token ids and the loss weight of each token as a target. One row at a time,
float32, no packing, no chunks. A test keeps its loss curve equal to the engine's.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

Row = tuple[list[int], list[float]]


def batches(rows: Sequence[Row], size: int, epochs: int, seed: int) -> Iterator[list[Row]]:
    """Rows in the order of a permutation that depends on the seed and the epoch alone."""
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        for start in range(0, len(rows), size):
            yield [rows[index] for index in order[start : start + size]]


def summed_loss(model: PreTrainedModel, row: Row) -> tuple[torch.Tensor, float]:
    """Sum over targets of -weight * log p(target | before), and the sum of weights. The first token has no before."""
    ids = torch.tensor(row[0])[None]
    weight = torch.tensor(row[1][1:])
    logits = model(input_ids=ids).logits[0, :-1].float()
    logp = logits.log_softmax(dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    return -(weight * logp).sum(), float(weight.sum())


def rate(step: int, steps: int, peak: float, warmup: float = 0.05, floor: float = 0.1) -> float:
    """Linear rise, then half a cosine down to `floor` of the peak."""
    rising = round(steps * warmup)
    if step <= rising:
        return peak * step / (rising + 1)
    done = (step - 1 - rising) / max(1, steps - rising)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def train(
    model: PreTrainedModel, rows: Sequence[Row], *, size: int, epochs: int, peak: float, seed: int, clip: float = 1.0
) -> list[float]:
    """Train in place; returns the loss of every step."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), eps=1e-8)
    steps = epochs * math.ceil(len(rows) / size)
    losses = []
    for step, batch in enumerate(batches(rows, size, epochs, seed), start=1):
        model.train()
        total, weight = 0.0, 0.0
        for row in batch:
            loss, share = summed_loss(model, row)
            loss.backward()
            total, weight = total + float(loss.detach()), weight + share
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad /= weight
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, peak)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total / weight)
    return losses


def main() -> None:
    """Train a model folder on prepared rows and print the curve."""
    folder, file = sys.argv[1:]
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    rows = [(row["ids"], row["weight"]) for row in map(json.loads, lines)]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for step, loss in enumerate(train(model, rows, size=16, epochs=3, peak=3e-4, seed=17), start=1):
        print(f"step {step}  loss {loss:.4f}")


if __name__ == "__main__":
    main()
