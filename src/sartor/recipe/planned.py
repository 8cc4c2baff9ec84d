"""What recipes of later versions will hold: refused by name, so that nobody takes it for a misspelling."""

from __future__ import annotations

KEYS = frozenset(
    {
        *("serve", "watch", "tune", "track"),
        *("checks", "quantize"),
    }
)

NAMES: dict[str, frozenset[str]] = {}

VALUES: dict[str, frozenset[str]] = {
    "goal.task": frozenset({"embed"}),
}

ELSEWHERE: dict[str, str] = {
    "base_model": "base.model",
    "batch_size": "train.batch.examples",
    "dataset": "data.sources",
    "datasets": "data.sources",
    "eval_steps": "train.validation.every",
    "grad_clip": "train.clip_norm",
    "learning_rate_schedule": "train.schedule",
    "lora_alpha": "method.lora.alpha",
    "lora_dropout": "method.lora.dropout",
    "lora_r": "method.lora.rank",
    "lora_target_modules": "method.lora.target_modules",
    "lr": "train.optimizer.adamw.learning_rate",
    "lr_scheduler": "train.schedule",
    "lr_scheduler_type": "train.schedule",
    "max_grad_norm": "train.clip_norm",
    "max_length": "data.max_tokens",
    "max_seq_length": "data.max_tokens",
    "max_steps": "train.steps",
    "micro_batch_size": "train.micro_batch_tokens",
    "model_name_or_path": "base.model",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch.examples",
    "r": "method.lora.rank",
    "save_steps": "train.checkpoint.every",
    "sequence_len": "data.max_tokens",
    "torch_dtype": "base.dtype",
    "train_on_inputs": "data.loss_on",
    "val_set_size": "data.split.validation",
    "warmup_ratio": "train.schedule.cosine.warmup",
    "warmup_steps": "train.schedule.cosine.warmup",
}
"""What other tools call our keys."""
