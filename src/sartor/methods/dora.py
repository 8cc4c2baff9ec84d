"""DoRA: the length of every row of a weight and its direction are learnt apart; LoRA moves the direction.

    W' = m (W + s B A) / ||W + s B A||,   m begins as ||W||        norms are of rows, one for each output

Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", equation 5; as in section 4.3 no gradient goes through the norm.
PEFT's own layers compute it and build B A for every layer in every pass, so a step takes longer than LoRA's. B begins at zero,
so training starts at the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.methods import lora

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES, MERGES, NEW_TOKENS = "adapter", True, True
LEARNING_RATE, learning_rate = lora.LEARNING_RATE, lora.learning_rate


class Options(lora.LowRank):
    """Size and place of the low-rank updates of the direction."""


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move: A and B of every chosen layer, and a length for each of its outputs."""
    lengths = sum(outputs for _, _, outputs in form.matrices(options.targets))
    return lora.trainable(form, options) + lengths


def width(form: Shape, options: Options) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass: those of LoRA, and what the base layer gave."""
    layers = max(1, len(list(form.matrices(options.targets))))
    return options.rank + sum(outputs for _, _, outputs in form.matrices(options.targets)) // layers


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Inject the updates; only they and the lengths are trainable. `seed` fixes the initial A matrices."""
    from sartor.models.adapters import inject_lora

    inject_lora(
        policy,
        rank=options.rank,
        alpha=options.scale,
        dropout=options.dropout,
        target_modules=options.target_modules,
        rslora=False,
        seed=seed,
        use_dora=True,
    )
