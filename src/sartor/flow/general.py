"""General ability in training: questions that have nothing to do with the task, asked of the model at every validation.

They are those that `evaluate/general.py` keeps apart from the verdict's. Every rank asks its share of them; ranks that
hold shards of the model ask all of them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.engine.watchers import forgetting
from sartor.evaluate.general import General, share
from sartor.evaluate.likelihood import likelihood
from sartor.evaluate.suites import PROBE
from sartor.flow.feed import Feed
from sartor.flow.suites import writes
from sartor.protocols import Loss
from sartor.recipe.schema import GENERAL
from sartor.tokens.batch import Rendered

if TYPE_CHECKING:
    import torch

    from sartor.engine.loop import Validate
    from sartor.engine.precision import Masters
    from sartor.flow.handover import Material
    from sartor.flow.measure import Bench
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Watcher
    from sartor.tokens.batch import Batch

FEWEST = 24
"""Questions asked at each validation, always the same, at least; where that is short beside the validation rows, more."""
SHARE = 0.125
"""Of the tokens of the validation rows, so many may be those of the questions."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The questions with the model that they are asked of."""

    policy: ModelPolicy
    weights: Masters
    asked: list[list[Rendered]]
    """Of each question all answers after it, the right one first."""
    often: int
    """Questions asked at each validation, the first ones."""

    def shares(self, most: int | None = None) -> np.ndarray:
        """[n] the probability of the right answer to each of the first `most` questions. Every rank calls it, and is told all."""
        world, asked = self.weights.world, self.asked[:most]
        if self.weights.lockstep:
            sharded: Any = _Sharded(self.policy, self.weights)
            return _shares(sharded, asked)
        found = np.empty(len(asked))
        mine = _shares(self.policy, asked[world.rank :: world.size])
        for rank, some in enumerate(world.gather(mine.tolist())):
            found[rank :: world.size] = some
        return found

    def beside(self, validate: Validate) -> Validate:
        """A validation that tells the score as well, and its standard error."""

        def both() -> Mapping[str, float]:
            told, found = validate(), self.shares(self.often)
            return {**told, GENERAL: float(found.mean()), forgetting.ERROR: float(found.std() / len(found) ** 0.5)}

        return both


def probe_of(prepared: Material, policy: ModelPolicy, weights: Masters, tools: Bench) -> Probe | None:
    """The questions that are asked in a stage of training, as rank 0 has them; None where none are."""

    def told() -> list[list[list[list[int]]]] | None:
        suite = tools.suites.all.get(PROBE)
        if not isinstance(suite, General) or not writes(prepared):
            return None
        asked = [question.rendered(prepared.renderer) for question in suite.kept]
        return [[[row.ids.tolist(), row.weight.astype(int).tolist()] for row in rows] for rows in asked]

    lines = weights.world.lead(told)
    if lines is None:
        return None
    asked = [
        [Rendered(np.asarray(ids, np.int32), np.asarray(weight, np.float32), 0) for ids, weight in rows]
        for rows in lines
    ]
    return Probe(policy, weights, asked, _often(prepared, asked))


def _often(prepared: Material, asked: list[list[Rendered]]) -> int:
    rows = prepared.tokens["validation"]
    validated = prepared.settings.validation_rows * float(rows.lengths.mean()) if len(rows) else 0.0
    each = sum(len(rows[0]) + sum(int(row.weight.sum()) for row in rows[1:]) for rows in asked) / len(asked)
    return min(len(asked), max(FEWEST, int(SHARE * validated / each)))


def watched(prepared: Material, probe: Probe | None, feed: Feed) -> Feed:
    """The feed with the questions asked at each validation, and what looks at their score."""
    if probe is None or feed.validate is None:
        return feed
    recipe = prepared.loaded.recipe
    wanted = recipe.train.stop.forgetting
    alarm: list[Watcher] = []
    if wanted != "ignore":
        bound = recipe.largest_drop
        alarm = [forgetting.Forgetting(forgetting.BOUND if bound is None else bound, stop=wanted == "stop")]
    return Feed(feed.source, probe.beside(feed.validate), [*feed.watchers, *alarm], feed.hear)


def _shares(policy: ModelPolicy, asked: list[list[Rendered]]) -> np.ndarray:
    nll, _ = likelihood(policy, [row for rows in asked for row in rows])
    ends = np.cumsum([len(rows) for rows in asked], dtype=np.int64)
    return np.array([share((-some).tolist()) for some in np.split(nll, ends[:-1])]) if asked else np.empty(0)


class _Sharded:
    """A policy whose weights are put together for each batch."""

    def __init__(self, policy: ModelPolicy, weights: Masters) -> None:
        self._policy, self._weights = policy, weights

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def logp(self, batch: Batch) -> torch.Tensor:
        """[N] as the policy gives it."""
        return self._weights.loss(_logp, self._policy, batch).total


def _logp(policy: ModelPolicy, batch: Batch) -> Loss:
    return Loss(policy.logp(batch), batch.weight.sum())
