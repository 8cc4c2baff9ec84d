"""VeRA: random matrices that all layers share and nobody trains; each layer learns how much of each of their lines it takes.

    y = W x + diag(b) B diag(d) A x        A [r, in] and B [out, r] are fixed, b begins at zero, d at `start`

Kopiczko et al. 2024, "VeRA: Vector-based Random Matrix Adaptation", equation 2. Far fewer trainable numbers than
LoRA's, for more computation where the rank is larger. b begins at zero, so training starts at the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.methods import _rates
from sartor.methods._places import Places

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES, MERGES = "adapter", True
LEARNING_RATE = (2e-4, 1e-1)


class Options(Places):
    """Size and place of the updates."""

    rank: Annotated[int, Field(ge=1)] = 256
    """Lines of the shared matrices; costs one trainable number a layer each."""
    start: Annotated[float, Field(gt=0)] = 0.1
    """Where d begins."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the input of the update during training."""
    matrices: Annotated[int, Field(ge=0)] = 0
    """Names the random matrices. Adapters with the same ones can stand beside each other on one base; seed does not change them."""


def learning_rate(parameters: int, options: Options) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return _rates.scaled(parameters, 1e-3, 1e-1, "ten times LoRA's, as in Kopiczko et al. 2024")


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move: d and b of every chosen layer."""
    return sum(options.rank + outputs for _, _, outputs in form.matrices(options.targets))


def width(form: Shape, options: Options) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass: two of the rank, and what B gives."""
    sizes = [outputs for _, _, outputs in form.matrices(options.targets)]
    return 2 * options.rank + sum(sizes) // max(1, len(sizes))


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Inject the updates; only d and b are trainable. Where they begin does not depend on `seed`."""
    from sartor.models.adapters import inject

    inject(
        policy,
        "VeraConfig",
        target_modules=options.target_modules,
        seed=seed,
        r=options.rank,
        d_initial=options.start,
        vera_dropout=options.dropout,
        projection_prng_key=options.matrices,
        save_projection=True,
    )
