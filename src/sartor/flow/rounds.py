"""What a recipe must say before a policy may write its own data, and the reward as a metric of the verdict. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sartor.console import REWARD
from sartor.errors import Problem, RecipeError, RunError
from sartor.metrics._mean import ratio
from sartor.objectives._rounds import Reward, Rounds
from sartor.rollouts.prompts import Answer, Prompts

if TYPE_CHECKING:
    from sartor.advise.memory import Writing
    from sartor.flow.prepare import Prepared
    from sartor.protocols import Outcome
    from sartor.recipe.load import Loaded
    from sartor.recipe.schema import Component


ANSWERED = 64
"""Answers written together."""


def require_whole(objective: Component, parallel: str) -> None:
    """Raises RunError P133 where no process has the whole policy, which writes its own data."""
    if isinstance(objective.options, Rounds) and parallel == "fsdp2":
        what = f"{objective.name} writes its own data with a policy that is whole, and fsdp2 gives each process a part"
        raise RunError(Problem("P133", what, fix="train.parallel: ddp, or one process"))


def require(loaded: Loaded, objective: Component, kind: str) -> None:
    """Raises RecipeError R106 for settings that do not go with rounds."""
    options = objective.options
    assert isinstance(options, Rounds)
    key = f"train.objective.{objective.name}"
    if not options.rewards:
        what = "nothing says what a good answer is"
        fix = f"{key}.rewards: [reward.py:score], a metric such as exact_match, {{model: PATH}}, {{judge: ...}}, or a stage reward before it"
        raise RecipeError(loaded.problem("R106", key, what, fix=fix))
    for number, reward in enumerate(options.rewards):
        _require_file(loaded, f"{key}.rewards[{number}]", reward)
    train, data = loaded.recipe.train, loaded.recipe.data
    ptx = getattr(options, "ptx", 0.0)
    if ptx and kind != "example":
        what = "ptx learns the data's own answers, and these rows have none"
        raise RecipeError(loaded.problem("R106", f"{key}.ptx", what, fix="rows with answers, or ptx: 0"))
    if train.stop.on.name not in ("loss", REWARD):
        what = f"{objective.name} is steered by the reward within kl_bound, not by {train.stop.on.name}"
        raise RecipeError(
            loaded.problem("R106", "train.stop.on", what, fix=f"train.stop.on: {REWARD}, or leave it out")
        )
    idle = {
        "train.dropout": train.dropout > 0,
        "train.curriculum.by": train.curriculum.by != "none",
        "train.class_weights": train.class_weights != "none",
        "data.temperature": data.temperature != 1,
        "data.bias.reweigh": data.bias.reweigh is not None,
        **{f"data.sources[{number}].weight": source.weight is not None for number, source in enumerate(data.sources)},
    }
    for name, given in idle.items():
        if given:
            what = (
                f"{objective.name} asks every prompt equally often and measures without dropout, so this has no effect"
            )
            raise RecipeError(loaded.problem("R106", name, what, fix="leave it out"))


def _require_file(loaded: Loaded, key: str, reward: Reward) -> None:
    """Raises RecipeError R106 for a reward model that is not there."""
    if reward.model is not None and not (loaded.root / Path(reward.model).expanduser()).exists():
        what = f"there is no reward model at {reward.model}"
        fix = "the folder of a model trained with objective reward, such as runs/NAME/model"
        raise RecipeError(loaded.problem("R106", key, what, fix=fix))


def lengths(objective: Component, prompts: np.ndarray, max_tokens: int) -> np.ndarray:
    """Tokens of every answer that is learnt from when each prompt is asked once, at most."""
    options = objective.options
    assert isinstance(options, Rounds)
    return options.lengths(prompts, max_tokens)


def writing(objective: Component, prompts: np.ndarray, max_tokens: int) -> Writing:
    """How answers of a round are written, given the tokens of every prompt, at most."""
    from sartor.advise.memory import Writing

    options = objective.options
    assert isinstance(options, Rounds)
    longest = int(prompts.max())
    answers = options.prompts * options.samples
    answer = min(options.max_new_tokens, max_tokens)
    return Writing(min(ANSWERED, answers), longest, answer, kept=answers * min(longest + answer, max_tokens))


class RewardMetric:
    """Implements `Metric`: the mean reward of a model's answers to the test rows, as training gave it.

    Args:
        prepared: the run.
        indices: data set indices of the test rows, in the order of the outcomes.
    """

    name, higher_is_better, needs = REWARD, True, "prediction"

    def __init__(self, prepared: Prepared, indices: Sequence[int]) -> None:
        self._prepared, self._indices = prepared, indices

    def told_by(self, prepared: Prepared) -> RewardMetric:
        """The same metric with the rewards of these settings."""
        return RewardMetric(prepared, self._indices)

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2] (reward, 1); (0, 0) where it could not be told."""
        from sartor.flow.rollouts import reward_of

        prepared, settings = self._prepared, self._prepared.settings
        options = settings.objective.options
        assert isinstance(options, Rounds)
        dataset = prepared.rows.dataset
        rows = [dataset[index] for index in self._indices]
        prompts = Prompts(dataset, self._indices, prepared.renderer)
        asked = {row.id or str(row.origin): each for row, each in zip(rows, prompts, strict=True)}
        answers = [
            Answer(asked[each.id], np.empty(0, np.int32), each.prediction or "", each.stopped) for each in outcomes
        ]
        stopped = np.array([answer.stopped for answer in answers], np.bool_)
        reward = reward_of(options.rewards, prepared.loaded.root, settings, prepared.loaded.recipe.seed)
        scores = reward.score(answers) - options.unfinished * ~stopped
        known = np.isfinite(scores)
        return np.stack([np.where(known, scores, 0.0), known.astype(np.float64)], axis=1)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not-a-number where there is no reward."""
        return ratio(sums[..., 0], sums[..., 1])
