"""Partial fine-tuning: chosen weights of the model itself move, all others stay; saved as a whole model folder.

The last layers alone (Howard and Ruder 2018, "Universal Language Model Fine-tuning", section 3.3, start there), the norms (Zhao et
al. 2024, "Tuning LayerNorm in Attention"), the biases (Ben Zaken et al. 2022, "BitFit"), embeddings and head, or whatever a pattern
names. What several of the options name moves once. Training starts at the base. A choice that names nothing is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field

from sartor.errors import ModelError, Problem
from sartor.methods import _rates, full
from sartor.methods._places import LAYER
from sartor.options import Auto
from sartor.options import Options as BaseOptions

if TYPE_CHECKING:
    from sartor.advise.shape import Shape
    from sartor.models.base import ModelPolicy

SAVES, MERGES, NEW_TOKENS = "model", False, True
LEARNING_RATE = full.LEARNING_RATE
Part = Literal["norms", "embeddings", "head", "biases"]
Sizes = Mapping[str, tuple[int, ...]]
"""Name of a weight -> its shape."""
NORM = re.compile(r"(norm|ln_\w+|layernorm)\w*\.(weight|bias)$", re.IGNORECASE)
HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")


class Options(BaseOptions):
    """Which weights move: the union of the three."""

    layers: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] | Auto = "auto"
    """How many layers, counted from the last, or a list of their numbers, the first being 0; auto: 2 where nothing else is chosen."""
    parts: tuple[Part, ...] = ()
    """norms, embeddings, head and biases of the whole model. A head that is tied to the embeddings is the embeddings."""
    patterns: tuple[str, ...] = ()
    """Names of weights, with * for anything: [model.layers.*.mlp.down_proj.weight]."""

    @property
    def last(self) -> int | tuple[int, ...]:
        """`layers` with auto filled in."""
        return self.layers if self.layers != "auto" else 0 if self.parts or self.patterns else 2


def part_of(name: str, sizes: tuple[int, ...]) -> set[Part]:
    """The parts that a weight belongs to."""
    found: set[Part] = set()
    if name.endswith(".bias"):
        found.add("biases")
    if len(sizes) == 1 and NORM.search(name):
        found.add("norms")
    if len(sizes) == 2 and not LAYER.search(name):
        found.add("head" if HEAD.search(name) else "embeddings")
    return found


def chosen(sizes: Sizes, options: Options) -> set[str]:
    """Names of the weights that move. Raises ModelError M180 for a choice that names nothing, with what there is."""
    parts: dict[Part, set[str]] = {
        part: {name for name, shape in sizes.items() if part in part_of(name, shape)} for part in get_args(Part)
    }
    parts["head"] = parts["head"] or parts["embeddings"]
    wanted = {f"parts: {part}": parts[part] for part in options.parts}
    wanted |= {f"layers: {number}": names for number, names in _layers(sizes, options.last)}
    wanted |= {f'"{each}"': {name for name in sizes if fnmatchcase(name, each)} for each in options.patterns}
    empty = [what for what, names in wanted.items() if not names] or ([] if wanted else ["layers: 0"])
    if empty:
        raise _nothing(empty[0], sizes, [part for part, names in parts.items() if names])
    return set[str]().union(*wanted.values())


def _layers(sizes: Sizes, wanted: int | tuple[int, ...]) -> Iterator[tuple[int, set[str]]]:
    """(number, names of its weights) of each layer that is wanted."""
    numbers = {name: int(found[1]) for name in sizes if (found := LAYER.search(name))}
    count = max(numbers.values(), default=-1) + 1
    if isinstance(wanted, int):
        wanted = tuple(range(count - wanted, count))
    for number in wanted:
        yield number, {name for name, own in numbers.items() if own == number}


def _nothing(what: str, sizes: Sizes, parts: list[Part]) -> ModelError:
    layers = sorted({int(found[1]) for name in sizes if (found := LAYER.search(name))})
    kinds = sorted({LAYER.sub(".*.", name) for name in sizes})
    there = f"layers 0 to {layers[-1]}; " if layers else ""
    fix = f"{there}parts {', '.join(parts)}; patterns as {', '.join(kinds[:12])}{' ...' if len(kinds) > 12 else ''}"
    return ModelError(Problem("M180", f"method partial: no weight of this model is meant by {what}", fix=fix))


def learning_rate(parameters: int, options: Options) -> tuple[float, str]:
    """(peak rate of AdamW, reason): what moves are the model's own weights."""
    return _rates.whole(parameters)


def trainable(form: Shape, options: Options) -> int:
    """How many parameters move."""
    names = chosen(form.tensors, options)
    return sum(math.prod(form.tensors[name]) for name in names)


def width(form: Shape, options: Options) -> int:
    """0: weights of the model itself move."""
    return 0


def attach(policy: ModelPolicy, options: Options, *, seed: int) -> None:
    """Make the chosen parameters trainable, and a head in place of words with them.

    Raises ModelError M180 for a choice that names nothing.
    """
    from sartor.models.linear import sum_gradients

    own = dict(policy.model.named_parameters())
    names = chosen({name: tuple(parameter.shape) for name, parameter in own.items()}, options)
    for name in names:
        own[name].requires_grad_(True)
    for module in policy.head_modules():
        policy.model.get_submodule(module).requires_grad_(True)
    if policy.native:
        sum_gradients(policy.model)
