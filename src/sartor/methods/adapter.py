"""Bottleneck adapters: a small network behind attention and feed-forward part of every layer, before the residual is added.

    h <- h + W_up f(W_down h + b_down) + b_up,   W_up and b_up begin at zero

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", section 2.1; behind the feed-forward part alone it is the
adapter of Pfeiffer et al. 2021 ("AdapterFusion", section 4). The paper begins near the identity, this at it, so training starts at
the base. Not a change of weights: it cannot be merged, and costs two small products a layer wherever the model is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from sartor.errors import ModelError, Problem
from sartor.methods import _rates
from sartor.methods._places import ATTENTION_ENDS, FEED_FORWARD_ENDS, ends
from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES, MERGES = "adapter", False
LEARNING_RATE = (1e-5, 5e-3)


class Options(BaseOptions):
    """Size and place of the networks."""

    size: Annotated[int, Field(ge=1)] = 64
    """Inner width."""
    activation: Literal["relu", "gelu", "silu"] = "gelu"
    """f."""
    layers: tuple[str, ...] | Auto = "auto"
    """Names of the linear layers that a network stands behind; auto: the last of attention and of the feed-forward part."""

    def chosen(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Ends of the paths of these layers. Raises ModelError M126 where auto finds none."""
        paths = list(paths)
        found = ends(paths, (*ATTENTION_ENDS, *FEED_FORWARD_ENDS)) if self.layers == "auto" else self.layers
        if not found:
            kinds = ", ".join(sorted({path.rsplit(".", 1)[-1] for path in paths}))
            what = "which layers of this model end attention and the feed-forward part is not known"
            raise ModelError(Problem("M126", what, fix=f"method.adapter.layers, of {kinds}"))
        return found


def learning_rate(parameters: int, options: Options) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return _rates.scaled(parameters, 1e-4, 5e-3, "Pfeiffer et al. 2021")


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move: two matrices and two vectors behind each chosen layer."""
    layers = options.chosen(path for path, _, _ in form.matrices())
    return sum(2 * outputs * options.size + options.size + outputs for _, _, outputs in form.matrices(layers))


def width(form: Shape, options: Options) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass."""
    return options.size


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Insert the networks; they alone are trainable. `seed` fixes the initial W_down."""
    from sartor.models.adapters import linear_layers
    from sartor.models.bottleneck import Settings, insert

    settings = Settings(options.chosen(linear_layers(policy)), options.size, options.activation)
    insert(policy, settings, seed=seed)
