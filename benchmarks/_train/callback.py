"""What the trainers of the Hugging Face family share: the rows as they want them, and a callback that tells the watch."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from transformers import TrainerCallback

from _train.watch import Watch
from _train.work import ALPHA, RANK, Work


class Ticks(TrainerCallback):
    """Tells the watch of every optimiser step and of its loss."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After the weights have moved."""
        self.watch.stepped()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Keep the loss of the step."""
        if logs and "loss" in logs:
            self.watch.losses.append(float(logs["loss"]))


def columns(work: Work, order: list[int]) -> dict[str, list[list[int]]]:
    """`input_ids` and `labels` of the rows in this order, -100 where no loss is."""
    ids, prompts = work.ids(), work.prompts
    return {
        "input_ids": [ids[row].tolist() for row in order],
        "labels": [[-100] * prompts[row] + ids[row][prompts[row] :].tolist() for row in order],
    }


def common(work: Work, watch: Watch, micro: int, parts: int) -> dict[str, Any]:
    """Arguments that make any trainer do this work: rows in their order, a constant rate, nothing saved or reported.

    `micro` rows (or packs) make a forward pass and `parts` of those a step.
    """
    watch.settings |= {"per_device_train_batch_size": micro, "gradient_accumulation_steps": parts}
    return {
        "output_dir": str(work.folder / "peer"),
        "use_cpu": work.device == "cpu",
        "max_steps": watch.warmup + watch.steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": parts,
        "train_sampling_strategy": "sequential",
        "learning_rate": work.learning_rate,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 17,
    }


def lora() -> LoraConfig:
    """The same updates that Sartor trains."""
    return LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear")


def compute_type(exact: bool) -> torch.dtype:
    """bf16 weights for a peer's best settings, fp32 for the comparison of losses."""
    return torch.float32 if exact else torch.bfloat16
