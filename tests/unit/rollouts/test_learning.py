"""Every method finds the best answer of a bandit whose optimum is known, without running away from where it began.

As in a run, the step with the best reward within the bound is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rounds
import tiny
import torch

from sartor import registry
from sartor.engine.watchers._inside import Inside
from sartor.generate.local import LocalGenerator
from sartor.models.still import Still
from sartor.rollouts.validation import answered, validate

BOUND = 7.0
"""Nats an answer; the best policy nearest to the reference, which always says one of 12 tokens twice, is about 5 away."""
CASES: dict[str, dict[str, Any]] = {
    "ppo": {"prompts": 4, "samples": 8, "passes": 3, "kl": 0.01, "value": 0.5},
    "grpo": {"prompts": 4, "samples": 8, "passes": 2, "kl": 0.01},
    "rloo": {"prompts": 4, "samples": 8, "passes": 2, "kl": 0.01},
    "reinforce": {"prompts": 64, "passes": 2, "kl": 0.01},
}


@pytest.mark.parametrize(
    "name", ["ppo", "grpo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("rloo", "reinforce"))]
)
def test_it_reaches_the_optimum_within_the_bound(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    objective = registry.component("objective", name)
    options = objective.Options(**CASES[name])
    policy = rounds.moving(values=name == "ppo")
    source = rounds.source(policy, objective, options, steps=48, examples=options.prompts * options.samples)
    generator = LocalGenerator(policy, frozenset({rounds.STOP}), rounds.PAD, str, 64)
    asked = [source.prompts[place] for place in range(len(source.prompts))]
    reference = Still(tiny.policy(vocab_size=rounds.VOCABULARY))

    def measured() -> dict[str, float]:
        answers = answered(generator, asked, max_new_tokens=2, most_tokens=64)
        return validate(policy, reference, answers, source.reward, unfinished=0.0)

    best = Inside("reward", BOUND, sign=1.0, min_delta=0.0)
    rounds.learn(
        policy,
        source,
        objective,
        options,
        tmp_path,
        rate=1e-2,
        validate=measured,
        watchers=[best],
        validate_every=6,
        save_every=6,
    )
    found = measured()
    assert found["reward"] >= 0.95, name
    assert 1.0 < found["kl"] <= BOUND, name
    assert found["loss"] == -found["reward"]
