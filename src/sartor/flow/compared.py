"""What objectives on compared answers need beside a batch: the reference's log-probabilities, and how far the model has gone.

The first are constant, so they are measured once, before the first step, and kept in the stage folder; no second model is in
memory then. The second (`objectives/kto.py`) is estimated before each optimiser step on mismatched answers of all its rows, over
every micro-batch and rank, so that packing changes nothing.

    reference/train.columns, reference/validation.columns        and, for the second, mismatched_train.columns ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sartor.data.columns import read_columns, write_columns
from sartor.engine.validation import mean_loss
from sartor.flow.mismatched import Mismatched, Rows
from sartor.models.still import Still
from sartor.objectives._answers import KL, REFERENCE, Referenced, answer_logp, reference_logp
from sartor.protocols import Loss
from sartor.store import atomic
from sartor.tokens.batch import collate
from sartor.tokens.source import ALL, Step, seated

if TYPE_CHECKING:
    from sartor.engine.parallel.world import World
    from sartor.engine.precision import Masters
    from sartor.flow.handover import Material
    from sartor.models.base import ModelPolicy
    from sartor.protocols import BatchSource, Policy, Traits
    from sartor.tokens.batch import Batch

PARTS = ("train", "validation")
FOLDER = "reference"
MISMATCHED = "mismatched_"
AT_ONCE = 256
"""Rows that are held at a time."""


class Measured:
    """A number for each scored place of renderings.

    Args:
        ends: [n] int64, where the numbers of each rendering end.
        values: float32, the numbers.
    """

    def __init__(self, ends: np.ndarray, values: np.ndarray) -> None:
        self.ends, self.values = ends, values

    def of(self, places: Sequence[int]) -> torch.Tensor:
        """[N] the numbers of the renderings at these places, one after the other."""
        parts = [self.values[self.ends[place - 1] if place else 0 : self.ends[place]] for place in places]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32)) if parts else torch.zeros(0)


class Places:
    """Where the renderings of a batch lie in the token set they were taken from."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self._first = np.unique(rows.rows, return_index=True)

    def of(self, batch: Batch) -> list[int]:
        """[R] places."""
        group = batch.group.tolist()
        places: list[int] = []
        for number, row in enumerate(batch.rows):
            if number and group[number] == group[number - 1]:
                places.append(places[-1] + 1)
            else:
                places.append(int(self._first[np.searchsorted(self._rows, row)]))
        return places


def known_of(
    prepared: Material, policy: ModelPolicy, folder: Path, world: World, again: Callable[[], ModelPolicy]
) -> Mapping[str, Measured] | None:
    """The reference's log-probabilities of every part, measured now or read; None where they are asked for step by step.

    Before the ranks of `world` share the weights. `again` opens the model that training starts from.
    """
    options = prepared.settings.objective.options
    if not isinstance(options, Referenced) or options.precompute_reference is not True:
        return None
    wanted: dict[str, Rows] = {part: prepared.tokens[part] for part in PARTS if len(prepared.tokens[part])}
    if _estimates(prepared):
        wanted |= {MISMATCHED + part: Mismatched(rows, _longest(prepared)) for part, rows in list(wanted.items())}
    home = folder / FOLDER
    paths = {part: home / f"{part}.columns" for part in wanted}
    if not world.gather(all(path.exists() for path in paths.values()))[0]:
        reference = Still(policy, bare=True) if policy.adapter is not None else Still(again())
        for part, rows in wanted.items():
            _measure(reference, rows, prepared.settings.micro_tokens, paths[part], world)
        world.barrier()
    return {part: _read(path) for part, path in paths.items()}


def _measure(reference: Still, rows: Rows, micro_tokens: int, path: Path, world: World) -> None:
    """Write the numbers of all rows, each rank those of its share; rank 0 writes."""
    policy, found = reference.policy, []
    mine = np.array_split(np.arange(len(rows)), world.size)[world.rank].tolist()
    for begin in range(0, len(mine), AT_ONCE):
        some = mine[begin : begin + AT_ONCE]
        units = [[replace(rows[place], row=number)] for number, place in enumerate(some)]
        numbers: list[np.ndarray] = [np.empty(0, np.float32)] * len(some)
        size = micro_tokens if policy.exact.packs else None
        for batch in seated(units, size, ALL, share=policy.exact.shares):
            logp = reference.logp(batch.to(policy.device)).float().cpu().numpy()
            owner = batch.row.numpy()
            for row, number in enumerate(batch.rows):
                numbers[number] = logp[owner == row]
        found += numbers
    gathered = world.gather([part.tolist() for part in found])
    if not world.first:
        return
    every = [part for share in gathered for part in share]
    columns: dict[str, np.ndarray] = {
        "ends": np.cumsum([len(part) for part in every]).astype(np.int64),
        "values": np.array([value for part in every for value in part], np.float32),
    }
    atomic.make_folder(path.parent)
    temporary = path.with_name(f".tmp-{path.name}")
    write_columns(temporary, columns, {})
    os.replace(temporary, path)


def _read(path: Path) -> Measured:
    columns, _ = read_columns(path)
    return Measured(columns["ends"], columns["values"])


def _estimates(prepared: Material) -> bool:
    """Whether the objective wants to know how far the model has gone."""
    from sartor import registry

    traits: Traits = registry.component("objective", prepared.settings.objective.name).TRAITS
    return KL in traits.metrics and traits.together


def _longest(prepared: Material) -> int:
    return max(int(prepared.tokens[part].lengths.max()) for part in PARTS if len(prepared.tokens[part]))


class Beside:
    """Puts columns beside the batches of one part.

    Args:
        known: the reference's log-probabilities by part, where they were measured; else `reference` is asked.
        weights: how the ranks hold the model.
    """

    def __init__(
        self,
        prepared: Material,
        policy: ModelPolicy,
        weights: Masters,
        known: Mapping[str, Measured] | None,
        reference: Policy | None,
        part: str,
    ) -> None:
        self._policy, self._weights, self._reference = policy, weights, reference
        rows = prepared.tokens[part]
        self._places = Places(rows)
        self._known = None if known is None else known[part]
        self._other = Mismatched(rows, _longest(prepared)) if _estimates(prepared) else None
        self._known_other = None if known is None or self._other is None else known[MISMATCHED + part]

    @property
    def idle(self) -> bool:
        """Whether there is nothing to put beside a batch."""
        return self._known is None and self._other is None

    def __call__(self, batches: Sequence[Batch]) -> list[Batch]:
        """The batches of one optimiser step, or of one validation, on this rank, with their columns."""
        if self.idle:
            return list(batches)
        placed = [(batch, self._places.of(batch)) for batch in batches]
        columns: list[dict[str, torch.Tensor]] = [{} for _ in placed]
        if self._known is not None:
            for own, (batch, places) in zip(columns, placed, strict=True):
                known = self._known.of(places)
                own[REFERENCE] = known if len(batch.at) else known[:0]
        if self._other is not None:
            drift = self._drift(placed)
            for own, (batch, _) in zip(columns, placed, strict=True):
                own[KL] = torch.full_like(batch.weight, drift)
        return [
            replace(batch, columns={**batch.columns, **own}) for own, (batch, _) in zip(columns, placed, strict=True)
        ]

    def _drift(self, placed: Sequence[tuple[Batch, list[int]]]) -> float:
        """The mean log-ratio over mismatched answers, 0 at least."""
        assert self._other is not None
        mismatched = []
        for batch, places in placed:
            other = collate([self._other[place] for place in places])
            columns = {} if self._known_other is None else {REFERENCE: self._known_other.of(places)}
            mismatched.append(replace(other, columns=columns, labels=batch.scale[:, None]))
        with torch.no_grad():
            found = mean_loss(self._policy, mismatched, self._weights, objective=self._gone)
        return max(0.0, found["loss"])

    def _gone(self, policy: ModelPolicy, batch: Batch) -> Loss:
        """Sum of log-ratios of the rows that count, and their number."""
        counts = (batch.labels[:, 0] > 0).float()
        ratio = answer_logp(policy, batch) - reference_logp(self._reference, batch)
        return Loss((counts * ratio).sum(), counts.sum())


class Sourced:
    """Implements `BatchSource`: another source's batches with columns beside them."""

    def __init__(self, source: BatchSource, beside: Beside) -> None:
        self._source, self._beside = source, beside
        self.steps = source.steps

    @property
    def done(self) -> int:
        """Optimiser steps taken."""
        return self._source.done

    @property
    def micro_tokens(self) -> int | None:
        """Tokens of one forward pass, at most."""
        return self._source.micro_tokens

    @property
    def epochs(self) -> float:
        """How many epochs have been taken so far."""
        return self._source.epochs

    def take(self) -> Step:
        """The next optimiser step. Raises StopIteration after the last."""
        return self._with(self._source.take())

    def again(self, micro_tokens: int | None) -> Step:
        """The step taken last once more, in micro-batches of another size from now on."""
        return self._with(self._source.again(micro_tokens))

    def _with(self, step: Step) -> Step:
        return replace(step, batches=tuple(self._beside(step.batches)))

    def state(self) -> dict[str, Any]:
        """A JSON object from which `restore` continues."""
        return self._source.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken."""
        self._source.restore(state)
