"""LoRA: the base stays as it is and every chosen linear layer W gains a low-rank update, W x + (alpha / rank) B A x.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", equation 3; B starts at zero, so the tuned model
starts equal to the base. Saved as a PEFT adapter folder. `rslora` scales by alpha / sqrt(rank) (Kalajdzievski 2023);
`plus_ratio` gives B a higher learning rate than A (LoRA+, Hayou et al. 2024, section 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.methods import _rates
from sartor.methods._places import Places
from sartor.options import Auto

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES = "adapter"
NEW_TOKENS = True
"""Whether rows of tokens that the base does not have are trained and saved as well."""
MERGES = True
"""Whether what is learnt can be added to the weights of the base."""
MODELS = frozenset({"causal", "encoder", "encoder_decoder", "vision"})
LEARNING_RATE = (2e-5, 5e-3)


class LowRank(Places):
    """Size and place of low-rank updates."""

    rank: Annotated[int, Field(ge=1)] = 16
    """Inner dimension of the update."""
    alpha: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Scale of the update is alpha / rank; auto is twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the input of the update during training."""

    @property
    def scale(self) -> float:
        """`alpha` with auto filled in."""
        return 2.0 * self.rank if self.alpha == "auto" else self.alpha


class Options(LowRank):
    """Size and place of the low-rank updates, and how they are scaled and moved."""

    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank."""
    plus_ratio: Annotated[float, Field(gt=0)] = 1.0
    """LoRA+: learning rate of B as a multiple of A's, which is the optimiser's; 16 is a usual choice, 1 is plain LoRA."""


def learning_rate(parameters: int, options: LowRank) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return _rates.low_rank(parameters, options.rank)


def trainable(form: Shape, options: LowRank) -> int:
    """How many parameters move: A and B of every chosen layer."""
    return form.low_rank(options.rank, options.targets)


def width(form: Shape, options: LowRank) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass."""
    return options.rank


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Inject the updates; only they are trainable. `seed` fixes the initial A matrices."""
    from sartor.models.adapters import inject_lora

    inject_lora(
        policy,
        rank=options.rank,
        alpha=options.scale,
        dropout=options.dropout,
        target_modules=options.target_modules,
        rslora=options.rslora,
        seed=seed,
    )
    if options.plus_ratio != 1:
        policy.rates |= {name: options.plus_ratio for name in policy.trainable() if ".lora_B." in name}
