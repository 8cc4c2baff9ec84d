"""Wires rounds of answers together: the recipe's rewards, the source that training takes, and what it is validated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sartor.console import REWARD
from sartor.engine.watchers._inside import Inside
from sartor.engine.watchers.early_stop import EarlyStop
from sartor.errors import ModelError, Problem
from sartor.evaluate.metrics import batched
from sartor.evaluate.metrics import load as load_metrics
from sartor.flow.feed import Feed
from sartor.flow.model import find
from sartor.flow.prepare import renderer_for
from sartor.flow.rounds import ANSWERED
from sartor.generate.local import LocalGenerator
from sartor.generate.remote import RemoteWriter
from sartor.models.load import load
from sartor.objectives._rounds import Reward as Given
from sartor.objectives._rounds import Rounds
from sartor.rollouts.prompts import Prompts
from sartor.rollouts.rewards import ByFunction, ByJudge, ByMetric, ByModel, Reward, Weighted
from sartor.rollouts.source import Plan, RolloutSource
from sartor.rollouts.together import COMPANY, Company, Dealt, Led
from sartor.rollouts.validation import answered, validate
from sartor.tokens.source import Seat

if TYPE_CHECKING:
    from sartor.advise.settings import StageSettings
    from sartor.engine.parallel.world import World
    from sartor.flow.handover import Material
    from sartor.flow.prepare import Emit
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Policy


def ready(policy: ModelPolicy, settings: StageSettings) -> None:
    """Give the policy a value head where its advantages need one; before anything holds its weights."""
    if _options(settings).credit.rule == "gae":
        policy.add_value_head()


def rounds_of(
    prepared: Material, policy: ModelPolicy, reference: Policy, folder: Path, emit: Emit, world: World
) -> Feed:
    """The source over the training prompts, and validation on fixed prompts of the validation rows.

    Every rank of `world` calls it, and has the whole policy. Rank 0 keeps the answers of every round in `folder`. Raises
    InputError for a reward that cannot be opened.
    """
    recipe, settings, options = prepared.loaded.recipe, prepared.settings, _options(prepared.settings)
    company = Company(Seat(world.rank, world.size), world)
    reward = reward_of(options.rewards, prepared.loaded.root, settings, recipe.seed, company)
    renderer = prepared.renderer
    pad = renderer.vocabulary.pad_id or 0
    generator = LocalGenerator(policy, renderer.stop_ids, pad, renderer.text, ANSWERED)
    plan = Plan(
        prompts=options.prompts,
        samples=options.samples,
        passes=options.passes,
        credit=options.credit,
        size=settings.size,
        steps=settings.steps,
        seed=recipe.seed,
        max_new_tokens=options.max_new_tokens,
        most_tokens=prepared.max_tokens,
        temperature=options.temperature,
        unfinished=options.unfinished,
        penalty=options.penalty,
        target=options.target,
        kl_stop=options.kl_stop,
        kl_bound=options.kl_bound,
    )
    tokens, dataset = prepared.tokens, prepared.rows.dataset
    source = RolloutSource(
        policy,
        reference,
        Prompts(dataset, np.unique(tokens["train"].rows), renderer),
        generator,
        reward,
        plan,
        micro_tokens=settings.micro_tokens if policy.exact.packs else None,
        share=policy.exact.shares,
        emit=emit,
        folder=folder if world.first else None,
        mix=tokens["train"] if getattr(options, "ptx", 0.0) else (),
        company=company,
    )
    held_out = np.unique(tokens["validation"].rows)
    most = min(len(held_out), settings.validation_rows)
    if not most:
        return Feed(source, None, [], source.see)
    chosen = np.sort(np.random.default_rng([recipe.seed, 1]).permutation(held_out)[:most])
    asked = list(Prompts(dataset, chosen, renderer))

    def measure() -> dict[str, float]:
        most, longest = options.max_new_tokens, prepared.max_tokens
        answers = answered(generator, asked, max_new_tokens=most, most_tokens=longest, company=company)
        return validate(policy, reference, answers, reward, unfinished=options.unfinished, company=company)

    stop = recipe.train.stop
    best, until = (Inside(REWARD, options.kl_bound, sign=1.0, min_delta=stop.min_delta) for _ in range(2))
    return Feed(source, measure, [best, EarlyStop(until, stop.patience)], source.see)


def _options(settings: StageSettings) -> Rounds:
    options = settings.objective.options
    assert isinstance(options, Rounds)
    return options


def reward_of(
    given: Sequence[Given], root: Path, settings: StageSettings, seed: int, company: Company = COMPANY
) -> Reward:
    """The weighted sum of the recipe's rewards. Raises InputError for one that cannot be opened.

    Every rank of `company` asks for some of the answers, but rank 0 alone asks a function of the user's, which sees them all at
    once and need not be open to several processes.
    """
    parts: list[tuple[Reward, float]] = []
    for each in given:
        opened = _opened(each, root, settings, seed)
        parts.append((Led(opened, company) if each.function else Dealt(opened, company), each.weight))
    return Weighted(parts)


def _opened(given: Given, root: Path, settings: StageSettings, seed: int) -> Reward:
    if given.metric is not None:
        (metric,) = load_metrics([given.metric], root)
        return ByMetric(metric)
    if given.function is not None:
        return ByFunction(given.function, batched(given.function, root))
    if given.judge is not None:
        judge = given.judge
        writer = RemoteWriter(judge.endpoint, judge.model, judge.key)
        return ByJudge(f"judge {judge.model}", writer, judge.instruction, judge.scale, seed)
    assert given.model is not None
    return _model(given.model, root, settings)


def _model(reference: str, root: Path, settings: StageSettings) -> Reward:
    """A reward model. Raises ModelError N421 for one that gives no single number."""
    folder = find(reference, root)
    policy = load(folder, dtype=settings.dtype, device=settings.device, kernels=settings.kernels == "native")
    if policy.head is None or policy.head.kind not in ("reward", "number"):
        gives = "words" if policy.head is None else policy.head.kind
        what = f"{reference} gives {gives}, not a reward"
        raise ModelError(Problem("N421", what, file=str(folder.path), fix="a model trained with objective reward"))
    policy.eval()
    policy.model.requires_grad_(False)
    return ByModel(reference, policy, renderer_for(folder), settings.micro_tokens if policy.exact.packs else None)
