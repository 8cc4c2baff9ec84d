"""Full fine-tuning: every weight moves; saved as an ordinary Hugging Face model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.methods import _rates
from sartor.options import NoOptions

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

Options = NoOptions
SAVES = "model"
NEW_TOKENS = True
MODELS = frozenset({"causal", "encoder", "encoder_decoder", "vision"})
LEARNING_RATE = (1e-6, 2e-3)
"""Range outside of which a learning rate is warned about; the upper end is for small models."""


def learning_rate(parameters: int, options: NoOptions) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return _rates.whole(parameters)


def trainable(form: Shape, options: NoOptions) -> int:
    """How many parameters move: all."""
    return form.parameters


def width(form: Shape, options: NoOptions) -> int:
    """0: the weights themselves move."""
    return 0


def attach(policy: ModelPolicy, options: NoOptions, *, seed: int) -> None:
    """Make every parameter trainable."""
    from sartor.models.linear import sum_gradients

    policy.release()
    if policy.native:
        sum_gradients(policy.model)
