"""OFT: the inputs of every chosen layer are rotated, in blocks; lengths and angles within a block stay what they are.

    y = W R x,   R = blocks (I + Q)(I - Q)^-1 with Q = -Q^T        (Cayley; the inverse as a Neumann series of `terms`)

Qiu et al. 2023, "Controlling Text-to-Image Diffusion by Orthogonal Finetuning", section 4, in the form that turns the inputs
instead of the weights (Qiu et al. 2025, "Orthogonal Finetuning Made Scalable", sections 4 and 5). Q begins at zero, so training
starts at the base.
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
LEARNING_RATE = (2e-5, 1e-2)


class Options(Places):
    """Size and place of the rotations."""

    block_size: Annotated[int, Field(ge=2)] = 32
    """Inputs that are rotated among themselves; where it does not divide a layer's inputs, the nearest number that does."""
    terms: Annotated[int, Field(ge=3)] = 5
    """Of the Neumann series: more are closer to a rotation when angles are large."""


def learning_rate(parameters: int, options: Options) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return _rates.scaled(
        parameters, 2e-4, 1e-2, "twice LoRA's: a rotation that begins as none, without a factor before it"
    )


def block(inputs: int, wanted: int) -> int:
    """The divisor of `inputs` nearest to `wanted`, the smaller of two (as PEFT chooses it)."""
    divisors = [size for size in range(1, inputs + 1) if inputs % size == 0]
    return min(divisors, key=lambda size: (abs(size - wanted), size))


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move: half of a skew-symmetric matrix for every block of every chosen layer's inputs."""
    sizes = [(inputs, block(inputs, options.block_size)) for _, inputs, _ in form.matrices(options.targets)]
    return sum(inputs * (size - 1) // 2 for inputs, size in sizes)


def width(form: Shape, options: Options) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass: its inputs before they were rotated."""
    sizes = [inputs for _, inputs, _ in form.matrices(options.targets)]
    return sum(sizes) // max(1, len(sizes))


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Inject the rotations; only they are trainable. All begin at zero, whatever `seed`."""
    from sartor.models.adapters import inject

    inject(
        policy,
        "OFTConfig",
        target_modules=options.target_modules,
        seed=seed,
        r=0,
        oft_block_size=options.block_size,
        use_cayley_neumann=True,
        num_cayley_neumann_terms=options.terms,
    )
