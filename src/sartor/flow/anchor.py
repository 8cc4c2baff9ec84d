"""What holds the weights of a stage near its start: rows of an earlier task read and weighed, once, in the stage's folder.

    anchor/rows/         the rows as tokens
    anchor/importance/   one tensor for each that moves, whole or in shards, and COMPLETE

Both are made by the base before the first step; a resumed run, and every rank, reads the second again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor import registry
from sartor.data.reading import expand
from sartor.errors import DataError, ModelError, Problem, TokenError, raise_errors
from sartor.store import atomic
from sartor.store.tensors import Stored, save_tensors
from sartor.tokens.contract import windows
from sartor.tokens.store import TokenSet

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from sartor.engine.anchor import Anchor
    from sartor.engine.parallel.world import World
    from sartor.engine.precision import Masters
    from sartor.flow.handover import Material
    from sartor.models.base import ModelPolicy
    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Saver
    from sartor.recipe.load import Loaded
    from sartor.tokens.batch import Rendered
    from sartor.tokens.render import Renderer

LONGEST = 2048
"""Tokens of a row at most, where the recipe does not say."""


def files(loaded: Loaded) -> list[Path]:
    """The user's files that decide where an anchor holds. Raises DataError D113 where there are none."""
    data = _data(loaded)
    return [] if data is None else expand(data, loaded.root)


def require(loaded: Loaded, renderer: Renderer, base: ModelFolder) -> None:
    """Raises InputError where the rows of an earlier task are not there, faulty, or refused by the template."""
    if _data(loaded) is not None:
        _rendered(loaded, renderer, base)


def anchored(prepared: Material, policy: ModelPolicy, weights: Masters, folder: Path, world: World) -> Anchor | None:
    """The recipe's anchor over masters that are at their start; None where it asks for none.

    Raises ModelError M196 where rows are to be weighed by a model that does not continue text.
    """
    from sartor.engine.anchor import Anchor

    chosen = prepared.loaded.recipe.train.anchor
    if chosen == "none":
        return None
    options: Any = chosen.options
    measure = registry.component("anchor", chosen.name).importance
    if measure is None:
        return Anchor(weights, options.strength)
    if policy.kind != "causal" or policy.head is not None:
        what = f"{chosen.name} weighs rows by how likely the model finds their text, which this model does not tell"
        raise ModelError(Problem("M196", what, fix="train.anchor: l2_start"))
    rows, found = folder / "anchor" / "rows", folder / "anchor" / "importance"
    if world.lead(lambda: not found.exists() or bool(atomic.verify(found))):
        world.lead(lambda: _keep(prepared, rows))
        measured = measure(policy, weights, TokenSet.open(rows))
        atomic.publish(found, _writers(measured, weights), ranks=world)
    return Anchor(weights, options.strength, Stored(found, "importance", weights.part))


def _keep(prepared: Material, folder: Path) -> None:
    TokenSet.write(_rendered(prepared.loaded, prepared.renderer, prepared.base), folder)


def _writers(tensors: Mapping[str, torch.Tensor], weights: Masters) -> dict[str, Saver]:
    """This rank's share: the rows that it holds, or on rank 0 all."""
    world = weights.world
    parts = {name: part for name in tensors if (part := weights.part(name)) is not None}
    mine = {name: tensor for name, tensor in tensors.items() if parts or world.first}
    mine = {name: tensor for name, tensor in mine.items() if name not in parts or parts[name].start < parts[name].stop}
    suffix = f"-{world.rank}-of-{world.size}" if parts else ""
    if not mine:
        return {}
    return {
        f"importance{suffix}.safetensors": lambda path: save_tensors(mine, path, {n: parts[n] for n in mine if parts})
    }


def _data(loaded: Loaded) -> str | None:
    chosen = loaded.recipe.train.anchor
    return None if chosen == "none" else getattr(chosen.options, "data", None)


def _rendered(loaded: Loaded, renderer: Renderer, base: ModelFolder) -> list[Rendered]:
    """A fixed sample of the rows of an earlier task as tokens; long ones in windows, those that teach nothing left out."""
    from sartor.flow.eval import rows_of

    data, recipe = _data(loaded), loaded.recipe
    assert data is not None
    options: Any = recipe.train.anchor.options  # type: ignore[union-attr]
    rows = list(rows_of(data, loaded.root))
    order = np.sort(np.random.default_rng([recipe.seed, 4]).permutation(len(rows))[: options.rows])
    made = renderer.render_many([(int(index), rows[index]) for index in order])
    raise_errors(TokenError, [each for each in made if isinstance(each, Problem)])
    limit = min(base.window or LONGEST, LONGEST) if recipe.data.max_tokens == "auto" else recipe.data.max_tokens
    whole = [row for each in made if not isinstance(each, Problem) for row in each.rendered]
    found = [window for row in whole for window in windows(row, limit) if window.supervised]
    if not found:
        raise DataError(Problem("D100", "no row of the earlier task teaches anything", file=data))
    return found
