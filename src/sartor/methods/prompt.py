"""Prompt tuning: a few embeddings are learnt that stand before every row; the model itself stays as it is.

    p(y | [P; x])        P [tokens, H] is all that moves

Lester et al. 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", section 2. P begins as embeddings of words drawn
from the vocabulary (section 3.2), so training starts near the base behind a random prompt, not at it. The places count as
tokens of every row, in memory, time and the model's window; where rows may share a beginning they are computed once a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES, MERGES = "adapter", False
LEARNING_RATE = (1e-4, 3e-1)
MODELS, WORDED = frozenset({"causal"}), True
"""Only for decoders that write words."""


class Options(BaseOptions):
    """Size of the prompt."""

    tokens: Annotated[int, Field(ge=1)] = 20
    """Virtual tokens before every row."""


def learning_rate(parameters: int, options: Options) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return 5e-2, "embeddings move alone; Lester et al. 2021 take 0.3 with Adafactor, which divides by their size"


def places(options: Options) -> int:
    """How many places of the model's window go to every row beside its own."""
    return options.tokens


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move: an embedding for each virtual token."""
    return options.tokens * form.hidden


def width(form: Shape, options: Options) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass: none beside those of the base."""
    return 1


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Put the virtual tokens before every row; only they are trainable. `seed` draws the words they begin as."""
    from sartor.models.prompts import add_prompt

    add_prompt(policy, tokens=options.tokens, seed=seed)
