"""transformers' Trainer (and PEFT) as a contender: bf16 weights, the rows of each step sorted by length, four at a time.

python -m _train.with_transformers FOLDER transformers ...
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from peft import get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from _train.callback import Ticks, columns, common, compute_type, lora
from _train.watch import Watch, main
from _train.work import Work

MICRO_ROWS = 4


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows side by side, padded on the right to the longest."""
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=2),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
    }


def train(work: Work, watch: Watch, contender: str, exact: bool) -> None:
    """Train."""
    form = work.form
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=compute_type(exact), attn_implementation="sdpa")
    if work.method == "lora":
        model = get_peft_model(model, lora(), autocast_adapter_dtype=False)
    step_of = [row // form.rows for row in range(len(work.lengths))]
    order = sorted(range(len(work.lengths)), key=lambda row: (step_of[row], work.lengths[row]))
    settings = TrainingArguments(**common(work, watch, MICRO_ROWS, form.rows // MICRO_ROWS))
    trainer = Trainer(
        model,
        args=settings,
        data_collator=pad,
        train_dataset=Dataset.from_dict(columns(work, order)),
        callbacks=[Ticks(watch)],
    )
    watch.settings |= {
        "dtype": str(next(trainer.model.parameters()).dtype).removeprefix("torch."),
        "compile": settings.torch_compile,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "attention": trainer.model.config._attn_implementation,
        "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
    }
    trainer.train()


if __name__ == "__main__":
    main(train)
