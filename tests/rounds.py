"""Rounds over a tiny policy, and a bandit whose best answer is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tiny

from sartor.engine.loop import Plan as FitPlan
from sartor.engine.loop import fit
from sartor.engine.parallel.world import ALONE, World
from sartor.engine.schedules import constant
from sartor.events import Event
from sartor.generate.local import LocalGenerator
from sartor.models.policy import CausalPolicy
from sartor.models.still import Still
from sartor.rollouts.prompts import Answer, Asked
from sartor.rollouts.source import Plan, RolloutSource
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.source import StepSize

STOP, PAD, VOCABULARY = 1, 2, 12


class Same:
    """Rewards the share of tokens that say the prompt's first again: 1 is the most there is, chance gives 1 / VOCABULARY."""

    name = "same"

    def score(self, answers: Sequence[Answer]) -> np.ndarray:
        return np.array([float(np.mean(answer.ids == answer.asked.ids[0])) for answer in answers])


class Prompts:
    """Random prompts, some longer than others."""

    def __init__(self, count: int = 4) -> None:
        draw = np.random.default_rng(0)
        self.asked = [
            Asked(100 + place, draw.integers(3, VOCABULARY, 3 + place % 3).astype(np.int32), (), f"prompt {place}")
            for place in range(count)
        ]

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, place: int) -> Asked:
        return self.asked[place]


def moving(name: str = "llama", *, values: bool = False) -> CausalPolicy:
    """A policy all of whose weights move."""
    policy = tiny.policy(name, vocab_size=VOCABULARY)
    policy.model.requires_grad_(True)
    if values:
        policy.add_value_head()
    return policy


def source(
    policy: CausalPolicy,
    objective: ModuleType,
    options: Any,
    *,
    reference: Any = None,
    reward: Any = None,
    prompts: Any = None,
    steps: int = 8,
    examples: int = 8,
    tokens: int = 2,
    micro_tokens: int | None = 64,
    emit: Callable[[Event], None] = lambda event: None,
    **given: Any,
) -> RolloutSource:
    """A source over random prompts, with a second model as the reference where none is given."""
    generator = LocalGenerator(policy, frozenset({STOP}), PAD, lambda ids: " ".join(map(str, ids)), 64)
    plan = Plan(
        prompts=options.prompts,
        samples=options.samples,
        passes=options.passes,
        credit=options.credit,
        size=StepSize(examples=examples),
        steps=steps,
        seed=3,
        max_new_tokens=tokens,
        most_tokens=64,
        temperature=options.temperature,
        unfinished=options.unfinished,
        penalty=options.penalty,
        target=options.target,
        kl_stop=options.kl_stop,
        kl_bound=options.kl_bound,
    )
    return RolloutSource(
        policy,
        Still(tiny.policy(vocab_size=VOCABULARY)) if reference is None else reference,
        Prompts() if prompts is None else prompts,  # type: ignore[arg-type]
        generator,
        Same() if reward is None else reward,
        plan,
        micro_tokens=micro_tokens,
        share=policy.exact.shares,
        emit=emit,
        **given,
    )


def learn(
    policy: CausalPolicy,
    made: RolloutSource,
    objective: ModuleType,
    options: Any,
    folder: Path,
    *,
    rate: float = 3e-3,
    stop_asked: Callable[[], bool] = lambda: False,
    validate: Callable[[], dict[str, float]] | None = None,
    watchers: Sequence[Any] = (),
    weights: Any = None,
    world: World = ALONE,
    **plan: Any,
) -> list[Event]:
    """Take every step of the source with the engine; with validation it ends with the best step's weights."""
    settings = constant.Options(warmup=0.0)
    numbers: dict[str, Any] = {
        "seed": 3,
        "factor": lambda step, steps: constant.factor(step, steps, settings),
        "validate_every": 1000,
        "save_every": 1000,
        "metrics": objective.TRAITS.metrics,
        **plan,
    }
    events: list[Event] = []
    for event in fit(
        policy,
        lambda over, batch: objective.loss(over, batch, options),
        made,
        tiny.updater(policy, rate=rate, weights=weights),
        FitPlan(**numbers),
        validate=validate,
        watchers=watchers,
        checkpoints=Checkpoints(folder, lambda note: None, ranks=world),
        stop_asked=stop_asked,
    ):
        made.see(event)
        events.append(event)
    return events
