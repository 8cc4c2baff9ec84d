"""Prefix tuning: keys and values are learnt, in every layer, that every place of every row sees before the row itself.

    attention(q, [P_k; k], [P_v; v])        P_k, P_v [tokens, K, D] in each layer are all that moves

Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", section 4. They begin as keys and values that the
model itself makes of words drawn from the vocabulary (section 7.4 finds real words best), so training starts near the base
behind a random prompt. With `projection` a small network makes them while training (equation 3); it is not saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.methods import _rates
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES, MERGES = "adapter", False
LEARNING_RATE = (1e-5, 3e-1)
MODELS, WORDED = frozenset({"causal"}), True
"""Only for decoders that write words."""


class Options(BaseOptions):
    """Size of the prefix, and what makes it."""

    tokens: Annotated[int, Field(ge=1)] = 16
    """Virtual tokens before every row."""
    projection: Annotated[int, Field(ge=0)] = 0
    """Width of the network that makes keys and values; they begin at random then. 0: they are learnt themselves."""


def learning_rate(parameters: int, options: Options) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    if options.projection:
        return 5e-4, "ten times the 5e-5 of Li and Liang 2021, which trains longer"
    return _rates.scaled(parameters, 5e-3, 2e-1, "keys and values are of the order of one, and move alone")


def places(options: Options) -> int:
    """How many places of the model's window go to every row beside its own."""
    return options.tokens


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move: a key and a value in every layer for each virtual token, or what makes them."""
    each, inner = 2 * form.layers * form.key, options.projection
    if not inner:
        return options.tokens * each
    return options.tokens * form.key + (form.key + 1) * inner + (inner + 1) * each


def width(form: Shape, options: Options) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass: none beside those of the base."""
    return 1


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Put the virtual tokens before every row; only they, or what makes them, are trainable. `seed` draws where they begin."""
    from sartor.models.prompts import add_prefix

    add_prefix(policy, tokens=options.tokens, projection=options.projection, seed=seed)
