"""Answers of a student that learns from a teacher: some rows of a step get one that the policy writes itself, as it is then.

Which rows, and what is drawn for each answer, is a pure function of the seed and the number of the step, so a resumed run writes
what the unbroken one would have. Several ranks write some of the answers each and tell them to all, so the step is the same on
every rank, and the same as in one process up to the rounding of products of other shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.events import Event, Noted
from sartor.generate.sampling import Sampling
from sartor.tokens.batch import Rendered
from sartor.tokens.source import ALL, Seat, Unit

if TYPE_CHECKING:
    from sartor.generate.local import LocalGenerator
    from sartor.rollouts.prompts import Asked, Prompts

Gather = Callable[[Any], list[Any]]
"""A JSON value of each rank -> those of all of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the student answers."""

    share: float
    """Of the rows of a step"""
    temperature: float
    max_new_tokens: int
    most_tokens: int
    """Prompt and answer together, at most"""
    seed: int
    label: float
    """What stands in `labels` of a row that the student has answered"""


class Student:
    """Rewrites the units of a step, as `TokenSource` asks for.

    Args:
        prompts: of every row of the data set, by its index.
        generator: makes the policy's text; over the policy that learns.
        gather: tells the ranks of `seat` what each has written.
        emit: takes a note where a row leaves no room for an answer.
    """

    def __init__(
        self,
        prompts: Prompts,
        generator: LocalGenerator,
        plan: Plan,
        *,
        seat: Seat = ALL,
        gather: Gather = lambda value: [value],
        emit: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.prompts, self.generator, self.plan = prompts, generator, plan
        self._seat, self._gather, self._emit = seat, gather, emit
        self._told = False

    def __call__(self, units: Sequence[Unit], step: int) -> list[Unit]:
        """Units of one row each, those that were drawn with an answer of the student's."""
        plan = self.plan
        drawn = np.flatnonzero(np.random.default_rng([plan.seed, 7, step]).random(len(units)) < plan.share).tolist()
        asked = {place: self.prompts[units[place][0].row] for place in drawn}
        seed = int(np.random.SeedSequence([plan.seed, 8, step]).generate_state(1, np.uint32)[0])
        written = self.answers(list(asked.values()), Sampling(plan.temperature), seed)
        rewritten = list(units)
        for place, ids in zip(drawn, written, strict=True):
            if len(ids):
                rewritten[place] = [self.rendered(asked[place], ids, float(units[place][0].weight.max()))]
        if not self._told and not all(map(len, written)):
            self._told = True
            what = "rows whose prompt leaves no room for an answer of the student's are learnt with their own"
            self._emit(Noted("warning", "N429", what, step))
        return rewritten

    def answers(self, asked: Sequence[Asked], sampling: Sampling, seed: int) -> list[np.ndarray]:
        """An answer to each prompt, int32, its stop token included; empty where there is no room for one."""
        rank, size = self._seat.rank, self._seat.size
        room = [min(self.plan.max_new_tokens, self.plan.most_tokens - len(each.ids)) for each in asked]
        limits = [max(0, most) if place % size == rank else 0 for place, most in enumerate(room)]
        prompts = [each.ids.tolist() for each in asked]
        made = self.generator.complete(prompts, max_new_tokens=limits, sampling=sampling, seed=seed)
        mine = {each.index: list(each.ids) for each in made if limits[each.index]}
        told = {int(index): ids for share in self._gather(mine) for index, ids in share.items()}
        return [np.array(told.get(place, ()), np.int32) for place in range(len(asked))]

    def rendered(self, asked: Asked, ids: np.ndarray, weight: float = 1.0) -> Rendered:
        """A row with its prompt, an answer that is learnt from, and the label that says whose it is."""
        whole = np.concatenate([asked.ids, ids]).astype(np.int32)
        weights = np.full(len(whole), weight, np.float32)
        weights[: len(asked.ids)] = 0
        return Rendered(whole, weights, asked.row, np.array([self.plan.label], np.float32))
