"""How several processes hold the weights together: whole copies where they fit, else shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sartor import registry
from sartor.errors import Problem, RecipeError

if TYPE_CHECKING:
    from sartor.recipe.auto import Resolution
    from sartor.recipe.schema import Component, Recipe

Parallel = Literal["none", "ddp", "fsdp2"]
LOSSES = ("loss", "perplexity")
"""What early stopping can watch without asking the model for answers."""
ROOM = 0.7
"""Share of the memory that weights, gradients and the optimiser's state may take before they are cut into shards."""


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes train together, and how many of them share this machine."""

    size: int = 1
    here: int = 1

    @classmethod
    def of(cls, size: int, environ: Mapping[str, str]) -> Processes:
        """Those of a launcher, which says in LOCAL_WORLD_SIZE how many are here; all of them where it does not."""
        here = environ.get("LOCAL_WORLD_SIZE", "") if size > 1 else ""
        return cls(size, int(here) if here.isdecimal() and int(here) else size)


ONE = Processes()


def choose(
    recipe: Recipe,
    resolution: Resolution,
    processes: Processes,
    *,
    method: Component,
    optimizer: Component,
    dtype: str,
    fixed: int,
    free: int,
) -> Parallel:
    """The recipe's wish, or what fits: `fixed` are the bytes of a whole copy, `free` those that one process may take.

    Raises RecipeError P131 where none is wanted of several processes, or fsdp2 and something else in the recipe rules it out.
    """
    wanted = recipe.train.parallel
    if processes.size == 1:
        if wanted == "auto":
            resolution.decide("train.parallel", "none", "one process")
        return "none"
    if wanted == "none":
        what = f"train.parallel: none is for one process, and {processes.size} were started"
        raise RecipeError(Problem("P131", what, fix="train.parallel: auto, or start one process"))
    obstacle = _obstacle(recipe, method, optimizer, dtype)
    if wanted == "fsdp2" and obstacle is not None:
        what = f"train.parallel: fsdp2 does not go together with {obstacle}"
        raise RecipeError(Problem("P131", what, fix="train.parallel: ddp, or change the other"))
    if wanted != "auto":
        return wanted
    whole = f"{fixed / 2**30:.1f} of {free / 2**30:.1f} GiB"
    if fixed <= ROOM * free:
        name, why = "ddp", f"a whole copy on each of {processes.size} processes takes {whole}"
    elif obstacle is not None:
        name, why = "ddp", f"a whole copy takes {whole}, but fsdp2 does not go together with {obstacle}"
    else:
        name, why = "fsdp2", f"a whole copy on each of {processes.size} processes would take {whole}"
    resolution.decide("train.parallel", name, why)
    return "ddp" if name == "ddp" else "fsdp2"


def _obstacle(recipe: Recipe, method: Component, optimizer: Component, dtype: str) -> str | None:
    """What in the recipe needs whole weights."""
    metric = recipe.train.stop.on.name
    if metric not in LOSSES:
        return f"train.stop.on: {metric}, for which the model has to answer"
    if not getattr(registry.component("optimizer", optimizer.name), "ELEMENTWISE", False):
        return f"optimizer {optimizer.name}, which looks at whole matrices"
    if recipe.train.compile is True:
        return "train.compile: true, which nobody has shown to work on shards"
    module = registry.component("method", method.name)
    asks = getattr(module, "quantization", None)
    if asks is not None and asks(method.options, dtype) is not None:
        return f"method {method.name}, whose base is quantised"
    return None
