"""TRL's SFTTrainer as a contender: as it comes, with the settings found to be fastest, and with one method replaced.

    python -m _train.with_trl FOLDER trl_best ...

The rows of a step are the same as everyone's. `trl_best`: bf16 weights and adapters instead of autocast, no gradient
checkpointing, TRL's own best-fit packing applied to the rows of one step at a time, one pack in a forward pass.
`trl_model_loss`: the same with the model's own loss in place of TRL's, whose head multiplies in fp32 and scores every
position where there is no GPU. TRL's documentation names this way, a subclass with its own `compute_loss`.
"""

from __future__ import annotations

from typing import Any

from datasets import Dataset
from peft import get_peft_model
from transformers import AutoModelForCausalLM, Trainer
from trl import SFTConfig, SFTTrainer, pack_dataset

from _train.callback import Ticks, columns, common, compute_type, lora
from _train.watch import Watch, main
from _train.work import Work


class ModelLossTrainer(SFTTrainer):
    """SFTTrainer with the loss that the model itself computes."""

    def compute_loss(self, *arguments: Any, **more: Any) -> Any:
        """As in transformers' Trainer."""
        return Trainer.compute_loss(self, *arguments, **more)


def train(work: Work, watch: Watch, contender: str, exact: bool) -> None:
    """Train in one of the three ways."""
    if contender == "trl_default":
        train_default(work, watch, exact)
    else:
        train_best(work, watch, exact, {"trl_best": SFTTrainer, "trl_model_loss": ModelLossTrainer}[contender])


def train_default(work: Work, watch: Watch, exact: bool) -> None:
    """TRL's own choices: fp32 weights under bf16 autocast, gradient checkpointing, padding, eight rows at a time."""
    rows = work.form.rows
    arguments = common(work, watch, 8, rows // 8)
    if exact:
        arguments["bf16"] = False
    settings = SFTConfig(**arguments)
    trainer = SFTTrainer(
        str(work.model),
        args=settings,
        train_dataset=Dataset.from_dict(columns(work, list(range(len(work.lengths))))),
        peft_config=lora() if work.method == "lora" else None,
        callbacks=[Ticks(watch)],
    )
    describe(watch, settings, trainer)
    trainer.train()


def train_best(work: Work, watch: Watch, exact: bool, kind: type[SFTTrainer]) -> None:
    """bf16 throughout, packed."""
    form = work.form
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=compute_type(exact), attn_implementation="sdpa")
    if work.method == "lora":
        model = get_peft_model(model, lora(), autocast_adapter_dtype=False)
    rows = Dataset.from_dict(columns(work, list(range(len(work.lengths)))))
    packs = pack_dataset(rows, form.sequence, "bfd", {"batch_size": form.rows})
    steps = len(work.lengths) // form.rows
    if len(packs) != steps * form.sequences:
        raise RuntimeError(f"TRL packed {len(packs)} sequences, not {form.sequences} in each of {steps} steps")
    settings = SFTConfig(
        **common(work, watch, 1, form.sequences),
        bf16=False,
        gradient_checkpointing=False,
        packing=True,
        max_length=form.sequence,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = kind(model, args=settings, train_dataset=packs, callbacks=[Ticks(watch)])
    describe(watch, settings, trainer)
    trainer.train()


def describe(watch: Watch, settings: SFTConfig, trainer: SFTTrainer) -> None:
    """What TRL was told and what it made of it."""
    watch.settings |= {
        "dtype": str(next(trainer.model.parameters()).dtype).removeprefix("torch."),
        "autocast_bf16": settings.bf16,
        "packing": settings.packing,
        "compile": settings.torch_compile,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "attention": trainer.model.config._attn_implementation,
        "trainable": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
    }


if __name__ == "__main__":
    main(train)
