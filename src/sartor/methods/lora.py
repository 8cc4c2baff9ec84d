"""LoRA: the base stays as it is and every chosen linear layer W gains a low-rank update, W x + (alpha / rank) B A x.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", equation 3; B starts at zero, so the tuned model
starts equal to the base. Saved as a PEFT adapter folder. `rslora` scales by alpha / sqrt(rank) (Kalajdzievski 2023);
`plus_ratio` gives B a higher learning rate than A (LoRA+, Hayou et al. 2024, section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    from sartor.models.policy import CausalPolicy

SAVES = "adapter"
LEARNING_RATE = (2e-5, 5e-3)


class Options(BaseOptions):
    """Size and place of the low-rank updates."""

    rank: Annotated[int, Field(ge=1)] = 16
    """Inner dimension of the update."""
    alpha: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Scale of the update is alpha / rank; auto is twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the input of the update during training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the linear layers that get an update; all-linear is every one but the output head."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank."""
    plus_ratio: Annotated[float, Field(gt=0)] = 1.0
    """LoRA+: learning rate of B as a multiple of A's, which is the optimiser's; 16 is a usual choice, 1 is plain LoRA."""


def attach(policy: CausalPolicy, options: Options, *, seed: int) -> None:
    """Inject the updates; only they are trainable. `seed` fixes the initial A matrices."""
    from sartor.models.adapters import inject_lora

    inject_lora(
        policy,
        rank=options.rank,
        alpha=2.0 * options.rank if options.alpha == "auto" else options.alpha,
        dropout=options.dropout,
        target_modules=options.target_modules
        if options.target_modules == "all-linear"
        else list(options.target_modules),
        rslora=options.rslora,
        seed=seed,
    )
    if options.plus_ratio != 1:
        policy.rates |= {name: options.plus_ratio for name in policy.trainable() if ".lora_B." in name}
