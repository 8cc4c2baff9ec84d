"""Answers of several processes that learn together: each writes and judges some of them, and tells all of them to all.

A prompt's answers are written by one rank, the prompts dealt out in turn. What is drawn for an answer depends on neither the
rank nor its neighbours, so a round is the same as in one process, up to the rounding of products of other shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.rollouts.prompts import Answer
from sartor.store.ranks import ONE, Ranks
from sartor.tokens.source import ALL, Seat

if TYPE_CHECKING:
    from sartor.generate.local import LocalGenerator
    from sartor.generate.sampling import Sampling
    from sartor.rollouts.prompts import Asked
    from sartor.rollouts.rewards import Reward


@dataclass(frozen=True, slots=True)
class Company:
    """The processes that write rounds together, as one of them sees it."""

    seat: Seat = ALL
    ranks: Ranks = ONE

    def mine(self, place: int) -> bool:
        """Whether this rank does what stands at `place`."""
        return place % self.seat.size == self.seat.rank

    def written(
        self,
        generator: LocalGenerator,
        asked: Sequence[Asked],
        limits: Sequence[int],
        *,
        sampling: Sampling,
        seed: int = 0,
        samples: int = 1,
    ) -> list[tuple[int, Answer]]:
        """(index of the prompt, answer) in the order of prompts and samples, on every rank; none where a limit leaves no room.

        Args:
            limits: most tokens of an answer to each prompt.
            seed: where the random streams of all answers begin.
        """

        def write() -> list[list[Any]]:
            made = generator.complete(
                [each.ids.tolist() for each in asked],
                max_new_tokens=[most if self.mine(place) else 0 for place, most in enumerate(limits)],
                sampling=sampling,
                seed=seed,
                samples=samples,
            )
            return [
                [one.index, one.sample, [int(token) for token in one.ids], one.text, one.stopped]
                for one in made
                if one.ids
            ]

        told = [line for lines in self.ranks.each(write) for line in lines]
        return [
            (index, Answer(asked[index], np.array(ids, np.int32), text, stopped))
            for index, _, ids, text, stopped in sorted(told, key=lambda line: (line[0], line[1]))
        ]


COMPANY = Company()
"""One process."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """Implements `Reward` by one that judges each answer by itself: every rank asks it for some of them."""

    reward: Reward
    company: Company

    @property
    def name(self) -> str:
        """The reward's."""
        return self.reward.name

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        """[n], on every rank. Raises on all ranks what it raises on one."""
        seat = self.company.seat
        own = answers[seat.rank :: seat.size]
        found = np.empty(len(answers))
        told = self.company.ranks.each(lambda: self.reward.score(own).tolist() if own else [])
        for rank, some in enumerate(told):
            found[rank :: seat.size] = some
        return found


@dataclass(frozen=True, slots=True)
class Led:
    """Implements `Reward` by one that may compare the answers of a round: rank 0 asks it, for all of them."""

    reward: Reward
    company: Company

    @property
    def name(self) -> str:
        """The reward's."""
        return self.reward.name

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        """[n], on every rank. Raises on all ranks what it raises on rank 0."""
        return np.array(self.company.ranks.lead(lambda: self.reward.score(answers).tolist()), np.float64)
