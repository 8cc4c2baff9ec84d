"""One training stage: base model and proven tokens in, the best weights and their folder out."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sartor import registry
from sartor.console import REWARD
from sartor.engine.loop import Plan, Validate, fit
from sartor.engine.parallel.world import ALONE, World
from sartor.engine.precision import Masters, Objective
from sartor.engine.products import tf32
from sartor.engine.state import read_weights
from sartor.engine.updater import Updater
from sartor.engine.validation import mean_loss
from sartor.engine.watchers import best, chosen, early_stop, overfitting
from sartor.errors import ModelError, Problem
from sartor.evaluate.likelihood import row_losses
from sartor.evaluate.metrics import load as load_metrics
from sartor.evaluate.metrics import wants
from sartor.evaluate.outcomes import from_line, to_line
from sartor.events import Finished, Noted
from sartor.flow.anchor import anchored
from sartor.flow.answers import answers
from sartor.flow.compared import Beside, Sourced, known_of
from sartor.flow.course import COURSE
from sartor.flow.feed import Feed
from sartor.flow.general import Probe, probe_of, watched
from sartor.flow.on_policy import Fresh, student_of
from sartor.flow.roles import roles_of
from sartor.flow.rollouts import ready, rounds_of
from sartor.flow.steer import Aim, Helm, Place, advice
from sartor.flow.steer import told as chosen_told
from sartor.models.base import ModelPolicy
from sartor.models.compile import compile_layers
from sartor.models.grown import train_rows
from sartor.models.kinds import TOLD, kind_of
from sartor.models.load import load
from sartor.models.neftune import shake
from sartor.models.save import save_model
from sartor.models.vision import VisionPolicy
from sartor.store import atomic
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import Batch
from sartor.tokens.course import Course
from sartor.tokens.source import Seat, TokenSource, seated
from sartor.tokens.symbols import Symbols
from sartor.tokens.units import Units

if TYPE_CHECKING:
    from sartor.advise.settings import StageSettings
    from sartor.engine.anchor import Anchor
    from sartor.events import Event
    from sartor.flow.handover import Material
    from sartor.flow.measure import Bench
    from sartor.flow.prepare import Emit, Prepared
    from sartor.models.heads import HeadSpec
    from sartor.models.quantization import Quantization
    from sartor.protocols import BatchSource, Loss, Metric, Policy, Traits, Watcher


Losses = Callable[[], dict[str, float]]
STEERING_ROWS = 64
"""Validation rows answered at each validation when a metric of the answers steers."""


def open_base(prepared: Material, emit: Emit) -> ModelPolicy:
    """The model that training starts from: the base, with the head that is learnt in the place of words where there is one."""
    return _opened(prepared, emit, prepared.settings.head)


def open_rival(prepared: Material, emit: Emit) -> ModelPolicy:
    """The base model as it is, ready to be measured."""
    return _opened(prepared, emit, None)


def _opened(prepared: Material, emit: Emit, head: HeadSpec | None) -> ModelPolicy:
    """Raises ModelError M173 where the model is of another kind than its files tell."""
    recipe, settings = prepared.loaded.recipe, prepared.settings
    torch.set_num_threads(settings.threads)
    held = quantization(settings)
    policy = load(
        prepared.base,
        dtype=settings.dtype,
        device=settings.device,
        dropout=recipe.train.dropout,
        quantization=held,
        kernels=settings.kernels == "native",
        head=head,
        growth=prepared.renderer.vocabulary.growth,
        seed=recipe.seed,
    )
    told = kind_of(prepared.base)
    if policy.kind != told:
        what = f"the model is {TOLD[policy.kind]}, but its files say {TOLD[told]}"
        fix = "name the architecture it was saved from under architectures in config.json"
        raise ModelError(Problem("M173", what, file=str(prepared.base.root.path / "config.json"), fix=fix))
    wanted = settings.kernels == "native" and policy.kind == "causal"
    fell_back = wanted and policy.device.type == "cpu" and not policy.native
    attention = "" if policy.device.type == "cpu" else f"; attention: {policy.exact.attention}"
    emit(Noted("warning" if fell_back else "info", "M141", f"the model is computed by {policy.computed_by}{attention}"))
    if held is not None:
        emit(Noted("info", "M161", f"the base is held in {held}; base, few-shot and tuned are measured on it"))
    for note in policy.exact.notes:
        emit(Noted("warning", "M140", note))
    return policy


def quantization(settings: StageSettings) -> Quantization | None:
    """How the method wants the base held in memory; None: as it is stored."""
    asks = getattr(registry.component("method", settings.method.name), "quantization", None)
    held: Quantization | None = asks(settings.method.options, settings.dtype) if asks is not None else None
    return held


def attach(prepared: Material, policy: ModelPolicy) -> None:
    """Put the recipe's method on the base model: where training begins."""
    recipe, settings = prepared.loaded.recipe, prepared.settings
    method = registry.component("method", settings.method.name)
    if isinstance(policy, VisionPolicy):
        policy.moves_tower = recipe.train.vision == "trained"
    method.attach(policy, settings.method.options, seed=recipe.seed)
    train_rows(policy)
    if recipe.train.neftune:
        shake(policy, recipe.train.neftune)
    if settings.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if settings.compile:
        compile_layers(policy)


def train(
    prepared: Material,
    policy: ModelPolicy,
    folder: Path,
    emit: Emit,
    *,
    tools: Bench,
    owner: str,
    stop_asked: Callable[[], bool],
    world: World = ALONE,
    last: bool = True,
) -> Finished:
    """Train `policy` in place, with checkpoints in `folder`; it ends with the best step's weights, or with those that
    `flow.steer` takes where this stage is the `last` one and general ability is bounded.

    Every rank of `world` calls this with the same inputs. Rank 0 ends with the whole weights, which it publishes. Raises
    TrainingStopped and Interrupted as `engine.loop.fit` does, on every rank.
    """
    recipe, settings = prepared.loaded.recipe, prepared.settings
    traits: Traits = registry.component("objective", settings.objective.name).TRAITS
    again = partial(open_base, prepared, _unseen)
    known = known_of(prepared, policy, folder, world, again)
    if known is not None:
        traits = replace(traits, roles=traits.roles - {"reference"})
    roles = roles_of(prepared, policy, traits, again)
    objective = objective_of(prepared, **roles)
    course = _measured(prepared, policy, folder, world)
    if policy.features is not None:
        kept = [prepared.tokens[part] for part in ("train", "validation")]
        policy.features.keep(kept, folder / "features", base=owner, rank=world.rank, size=world.size, ranks=world)
    if traits.reads == "prompt":
        ready(policy, settings)
    weights = hold(settings, policy, world)
    anchor = anchored(prepared, policy, weights, folder, world)
    if traits.reads == "prompt":
        feed = rounds_of(prepared, policy, roles["reference"], folder, emit, world)
    else:
        beside = partial(Beside, prepared, policy, weights, known, roles.get("reference"))
        feed = _tokens_of(prepared, policy, weights, objective, course, tools, beside, emit)
    probe = probe_of(prepared, policy, weights, tools)
    helm = _helm(prepared, folder, probe, weights, last=last)
    validate, feed = feed.validate, watched(prepared, probe, feed)
    checkpoints = Checkpoints(folder / "checkpoints", emit, owner=owner, ranks=world)
    finished: Finished | None = None
    with tf32(recipe.train.tf32):
        for event in fit(
            policy,
            objective,
            feed.source,
            updater_of(prepared, policy, weights, anchor),
            plan_of(prepared, validate_every=settings.validate_every, save_every=settings.save_every),
            validate=feed.validate,
            watchers=feed.watchers,
            checkpoints=checkpoints,
            stop_asked=stop_asked,
        ):
            feed.hear(event)
            if isinstance(event, Finished):
                finished = event
            else:
                emit(event)
        assert finished is not None
        place = Place(finished.best_step, 1.0)
        if helm is not None and validate is not None and place.step and world.lead(lambda: last):
            place = _steered(prepared, helm, validate, checkpoints, finished, emit)
            finished = replace(finished, best_step=place.step)
    emit(finished)
    if weights.lockstep:
        _make_whole(prepared, policy, helm, place, checkpoints, world)
    if feed.validate is not None and finished.best_step == 0:
        left = (
            "is the one it began with"
            if settings.head is None
            else "has the head it began with, which has learnt nothing"
        )
        what = f"no step was better on validation than the start; the model of this stage {left}"
        emit(Noted("warning", "N413", what))
    return finished


def _helm(prepared: Material, folder: Path, probe: Probe | None, weights: Masters, *, last: bool) -> Helm | None:
    """What chooses the operating point; None where general ability has no bound, or the choice is not wanted."""
    recipe = prepared.loaded.recipe
    bound, asked = recipe.largest_drop, recipe.evaluate.probe
    if probe is None or bound is None or asked is None or not asked.steer:
        return None
    traits: Traits = registry.component("objective", prepared.settings.objective.name).TRAITS
    metric, higher = recipe.train.stop.on.name, False
    if traits.reads == "prompt":
        metric, higher = REWARD, True
    elif (steering := _steering(prepared)) is not None:
        higher = steering.higher_is_better
    aim = Aim(metric, 1.0 if higher else -1.0, bound, recipe.evaluate.confidence, recipe.seed)
    return Helm(folder, aim, probe, weights, prepared.settings.method.name, last=last)


def _steered(
    prepared: Material, helm: Helm, validate: Validate, checkpoints: Checkpoints, finished: Finished, emit: Emit
) -> Place:
    """Choose the operating point, and say what came of it."""
    chosen = helm.choose(validate, checkpoints, finished)
    if chosen is None:
        emit(advice(prepared.loaded.recipe, helm.steering, prepared.settings.learning_rate))
        return Place(finished.best_step, 1.0)
    note = chosen_told(chosen, finished, helm.aim, float(helm.base.mean()))
    if note is not None:
        emit(note)
    return chosen.place


def _tokens_of(
    prepared: Material,
    policy: ModelPolicy,
    weights: Masters,
    objective: Objective,
    course: Course,
    tools: Bench,
    beside: Callable[[str], Beside],
    emit: Emit,
) -> Feed:
    """The tokens of the training rows as far as this rank takes them, and validation on rows that are kept apart."""
    recipe, settings, world = prepared.loaded.recipe, prepared.settings, weights.world
    traits: Traits = registry.component("objective", settings.objective.name).TRAITS
    seat = Seat(world.rank, world.size, weights.lockstep)
    student = student_of(prepared, policy, seat, world, emit)
    source = TokenSource(
        prepared.tokens["train"],
        size=settings.size,
        micro_tokens=settings.micro_tokens if policy.exact.packs else None,
        seed=recipe.seed,
        steps=settings.steps,
        seat=seat,
        pin=policy.device.type == "cuda",
        share=_shares(policy, traits) and not policy.drops,
        course=course,
        together=traits.together,
        rewrite=student,
    )
    held_out = Units(prepared.tokens["validation"], together=traits.together)
    told = beside("train")
    taken: BatchSource = source if told.idle else Sourced(source, told)
    if not min(len(held_out), settings.validation_rows):
        return Feed(taken, None, [])
    shares = _shares(policy, traits)
    picked = [held_out[index] for index in _fixed_sample(len(held_out), settings.validation_rows, recipe.seed)]
    batches = seated(picked, source.micro_tokens, seat, share=shares)
    stop = recipe.train.stop
    steering = _steering(prepared)
    sign = 1.0 if steering is not None and steering.higher_is_better else -1.0
    watchers: list[Watcher] = [
        module.build(stop.on.name, sign=sign, min_delta=stop.min_delta, patience=stop.patience)
        for module in (best, early_stop, overfitting, chosen)
    ]
    shown = partial(beside("validation"), batches)
    losses = _losses(policy, weights, shown, objective, traits)
    if student is not None:
        rows = [unit[0].row for unit in picked]
        losses = Fresh(student, rows, policy, weights, objective, source.micro_tokens, seat, shares, losses)
    validate = _validation(prepared, policy, weights, losses, steering, tools)
    return Feed(taken, validate, watchers)


def _shares(policy: ModelPolicy, traits: Traits) -> bool:
    """Whether rows may share their beginnings: not where each token has a label, or tokens of its own are hidden."""
    return policy.exact.shares and traits.head != "tags" and not traits.symbols


def _measured(prepared: Material, policy: ModelPolicy, folder: Path, world: World) -> Course:
    """The course, with the base model's loss on every row where the curriculum goes by it; measured once for a stage."""
    course = prepared.course
    if prepared.loaded.recipe.train.curriculum.by != "loss":
        return course
    kept = folder / COURSE
    if world.gather(kept.exists())[0]:
        return Course.open(kept)
    rows = prepared.tokens["train"]
    mine = range(world.rank, len(rows), world.size)
    losses = np.empty(len(rows))
    for rank, share in enumerate(world.gather(row_losses(policy, rows, mine).tolist())):
        losses[rank :: world.size] = share
    course = replace(course, difficulty=losses)
    if world.first:
        folder.mkdir(parents=True, exist_ok=True)
        course.write(kept)
    return course


def hold(settings: StageSettings, policy: ModelPolicy, world: World) -> Masters:
    """What moves, held by this process or together with the other ranks."""
    if world.alone:
        return Masters(policy.trainable())
    if settings.parallel == "fsdp2":
        from sartor.engine.parallel.shards import Shards

        return Shards(policy, world, getattr(torch, settings.dtype))
    from sartor.engine.parallel.replicas import Replicas

    return Replicas(policy.trainable(), world)


def _make_whole(
    prepared: Material, policy: ModelPolicy, helm: Helm | None, place: Place, checkpoints: Checkpoints, world: World
) -> None:
    """Put a whole model with the weights of a place in the place of this policy's shards. Only rank 0 needs it."""
    if not world.first:
        return
    fresh = open_base(prepared, _unseen)
    attach(prepared, fresh)
    whole = Masters(fresh.trainable())
    if helm is None:
        read_weights(checkpoints.path(place.step), whole)
    else:
        helm.load(place, checkpoints, whole)
    fresh.eval()
    policy.model, policy.adapter, policy.device = fresh.model, fresh.adapter, fresh.device
    policy.adapters, policy.features = fresh.adapters, fresh.features


def updater_of(prepared: Material, policy: ModelPolicy, weights: Masters, anchor: Anchor | None = None) -> Updater:
    """The recipe's optimiser over what moves."""
    settings = prepared.settings
    return Updater(
        weights,
        registry.component("optimizer", settings.optimizer.name),
        settings.optimizer.options,
        learning_rate=settings.learning_rate,
        clip_norm=prepared.loaded.recipe.train.clip_norm,
        tables=policy.tables(),
        rates=policy.rates,
        anchor=anchor,
    )


def plan_of(prepared: Material, *, validate_every: int, save_every: int) -> Plan:
    """The recipe's wishes about how training goes."""
    recipe, origin = prepared.loaded.recipe, prepared.rows.dataset.origin
    schedule = registry.component("schedule", recipe.train.schedule.name)
    return Plan(
        seed=recipe.seed,
        factor=lambda step, steps: schedule.factor(step, steps, recipe.train.schedule.options),
        validate_every=validate_every,
        save_every=save_every,
        keep=recipe.train.checkpoint.keep,
        on_spike=recipe.train.on_spike,
        name_row=lambda row: str(origin(row)),
        metrics=registry.component("objective", prepared.settings.objective.name).TRAITS.metrics,
    )


def objective_of(prepared: Material, **roles: Policy) -> Objective:
    """The recipe's objective with its options, and the further models it asks."""
    module, options = (
        registry.component("objective", prepared.settings.objective.name),
        prepared.settings.objective.options,
    )

    more: dict[str, Any] = dict(roles)
    if module.TRAITS.symbols:
        more["symbols"] = Symbols.of(prepared.renderer.vocabulary)

    def objective(policy: ModelPolicy, batch: Batch) -> Loss:
        loss: Loss = module.loss(policy, batch, options, **more)
        return loss

    return objective


def _steering(prepared: Material) -> Metric | None:
    """The metric of train.stop.on, where it is one that has to be measured apart from the loss."""
    wanted = prepared.loaded.recipe.train.stop.on
    return None if wanted.name in ("loss", "perplexity") else load_metrics([wanted], prepared.loaded.root)[0]


def _losses(
    policy: ModelPolicy,
    weights: Masters,
    batches: Callable[[], Sequence[Batch]],
    objective: Objective,
    traits: Traits,
) -> Losses:
    """Mean loss over every rank's batches."""

    def losses() -> dict[str, float]:
        if traits.learns == "tokens":
            return mean_loss(policy, batches(), weights)
        return mean_loss(policy, batches(), weights, objective=objective, metrics=traits.metrics)

    return losses


def _validation(
    prepared: Material,
    policy: ModelPolicy,
    weights: Masters,
    losses: Losses,
    steering: Metric | None,
    tools: Bench,
) -> Validate:
    """The losses, and the metric that steers over a fixed sample of validation rows."""
    if steering is None:
        return losses
    name, task = prepared.loaded.recipe.train.stop.on.name, prepared.settings.task
    rows = np.unique(prepared.tokens["validation"].rows)
    sample = np.sort(np.random.default_rng([prepared.loaded.recipe.seed, 3]).permutation(rows)[:STEERING_ROWS])

    world = weights.world

    def validate() -> dict[str, float]:
        mine = [int(index) for index in sample[world.rank :: world.size]]
        want = wants([steering], task)
        own = list(answers(prepared, policy, mine, tools, name="validation", want=want, emit=_unseen))
        told = [from_line(line) for lines in world.gather([to_line(one) for one in own]) for line in lines]
        value = steering.combine(steering.stats(told).sum(axis=0))
        return losses() | {name: float(value)}

    return validate


def _unseen(event: Event) -> None:
    """Progress of a validation is not shown: it is part of a step."""


def _fixed_sample(count: int, most: int, seed: int) -> list[int]:
    """The same validation rows each time."""
    picked: list[int] = np.sort(np.random.default_rng([seed, 1]).permutation(count)[:most]).tolist()
    return picked


def publish_model(prepared: Prepared, policy: ModelPolicy, folder: Path, *, best_step: int, run: Path) -> None:
    """Write the tuned model folder of a run, whole or not at all."""
    held = quantization(prepared.settings)
    facts = {
        "base": _findable(prepared, folder, run),
        "base_path": str(prepared.base.path),
        "method": prepared.settings.method.name,
        "best_step": best_step,
        "quantization": held.json() if held else None,
        "task": prepared.settings.task,
        "max_tokens": prepared.max_tokens,
        "thinks": prepared.renderer.thinks,
        "reasoning": prepared.renderer.reasoning,
        "renderer": prepared.renderer.fingerprint,
    }
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-model-") as scratch:
        made = Path(scratch) / "model"
        save_model(
            policy,
            made,
            base=prepared.base.root.path,
            files=prepared.vocabulary.files,
            template=prepared.renderer.template.source,
            facts=facts,
            texts=prepared.vocabulary.texts,
        )
        atomic.publish(folder, {file.name: partial(_move, file) for file in sorted(made.iterdir())}, about=facts)


def _findable(prepared: Prepared, folder: Path, run: Path) -> str:
    """The base as it is found from any folder: by its name, or by its path where it is local or of one revision.

    One that an earlier stage of the run has made is found from the model's folder, wherever the run is moved.
    """
    if prepared.base.path.is_relative_to(run.resolve()):
        return os.path.relpath(prepared.base.path, folder.resolve())
    reference, base = prepared.base.reference, prepared.loaded.recipe.base
    local = (prepared.loaded.root / Path(reference).expanduser()).is_dir()
    return str(prepared.base.path) if local or base.revision is not None else reference


def _move(file: Path, to: Path) -> None:
    shutil.move(file, to)
