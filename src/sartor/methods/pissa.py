"""PiSSA: a low-rank update that begins as the largest components of each weight, which are taken off beside it.

    y = W x + (B A - B0 A0) x,   W = U S V^T,  B0 = U_r S_r^1/2,  A0 = S_r^1/2 V_r^T,  B and A begin as B0 and A0

Meng et al. 2024, "PiSSA: Principal Singular Values and Singular Vectors Adaptation", equations 2 to 4. LoRA starts in a random
direction, from nothing; this moves what matters most in a weight from the first step. The paper keeps W - B0 A0 as a new base;
here the base stays as it is (models/principal.py says how), training starts at it up to rounding, and what is saved is an
ordinary LoRA adapter of twice the rank for the original base. The paper's alpha is the rank, a scale of 1, as here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.methods import _rates
from sartor.methods._places import Places

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES, MERGES, NEW_TOKENS = "adapter", True, True
LEARNING_RATE = (2e-6, 1e-3)


class Options(Places):
    """Size and place of the updates."""

    rank: Annotated[int, Field(ge=1)] = 16
    """Components of a weight that are learnt; the saved adapter has twice as many."""
    iterations: Annotated[int, Field(ge=0)] = 16
    """Of the randomised decomposition that finds them in seconds; 0 is the exact one, minutes for billions of parameters."""


def learning_rate(parameters: int, options: Options) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return _rates.scaled(parameters, 2e-5, 1e-3, "Meng et al. 2024: what moves is large from the start")


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move: A and B of every chosen layer."""
    return form.low_rank(options.rank, options.targets)


def width(form: Shape, options: Options) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass."""
    return 2 * options.rank


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Inject the updates; only they are trainable. Where they begin depends on the base alone, not on `seed`."""
    from sartor.models.adapters import inject_lora
    from sartor.models.principal import begin

    adapter = inject_lora(
        policy,
        rank=options.rank,
        alpha=float(options.rank),
        dropout=0.0,
        target_modules=options.target_modules,
        rslora=False,
        seed=seed,
    )
    begin(policy, adapter, options.rank, options.iterations)
