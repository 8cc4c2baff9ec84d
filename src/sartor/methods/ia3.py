"""IA3: every key, every value and every inner number of the feed-forward part is multiplied by a learnt factor.

    k' = l_k * k,   v' = l_v * v,   y = W_down (l_f * h)        all l begin at one

Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", section 3.3. The
fewest trainable numbers of all methods that change the layers. All factors are one at first, so training starts at the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sartor.errors import ModelError, Problem
from sartor.methods import _rates
from sartor.methods._places import FEED_FORWARD_ENDS, KEYS_VALUES, ends
from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES, MERGES = "adapter", True
LEARNING_RATE = (3e-4, 1e-1)


class Options(BaseOptions):
    """Place of the factors."""

    outputs: tuple[str, ...] | Auto = "auto"
    """Names of the linear layers whose outputs are multiplied; auto: those that make keys and values."""
    inputs: tuple[str, ...] | Auto = "auto"
    """Names of the linear layers whose inputs are multiplied; auto: the last of the feed-forward part."""

    def chosen(self, paths: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(outputs, inputs) as ends of paths. Raises ModelError M126 where auto finds none."""
        paths = list(paths)
        outputs = ends(paths, KEYS_VALUES) if self.outputs == "auto" else self.outputs
        inputs = ends(paths, FEED_FORWARD_ENDS) if self.inputs == "auto" else self.inputs
        if (not outputs and not inputs) or ("auto" in (self.outputs, self.inputs) and not (outputs and inputs)):
            kinds = ", ".join(sorted({path.rsplit(".", 1)[-1] for path in paths}))
            what = "which layers of this model make keys and values, or end the feed-forward part, is not known"
            fix = f"method.ia3.outputs and method.ia3.inputs, of {kinds}"
            raise ModelError(Problem("M126", what, fix=fix))
        return outputs, inputs


def learning_rate(parameters: int, options: Options) -> tuple[float, str]:
    """(peak rate of AdamW, reason)."""
    return _rates.scaled(parameters, 2e-3, 1e-1, "3e-3 at 3B in Liu et al. 2022, section 3.3")


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move: a factor for each chosen output or input."""
    outputs, inputs = options.chosen(path for path, _, _ in form.matrices())
    made = sum(size for _, _, size in form.matrices(outputs) if outputs)
    return made + sum(size for _, size, _ in form.matrices(inputs) if inputs)


def width(form: Shape, options: Options) -> int:
    """Numbers that a token leaves in each linear layer for the backward pass: what was multiplied."""
    return form.key


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Inject the factors; only they are trainable. All begin at one, whatever `seed`."""
    from sartor.models.adapters import inject, linear_layers

    outputs, inputs = options.chosen(linear_layers(policy))
    inject(
        policy,
        "IA3Config",
        target_modules=(*outputs, *inputs),
        seed=seed,
        feedforward_modules=list(inputs),
    )
