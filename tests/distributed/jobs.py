"""What a rank does in the tests: reads its jobs, does each together with the other ranks, and leaves what came out in a folder.

    RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=... python jobs.py FOLDER '[{"name": ..., ...}, ...]'

`train` runs in the tests' own process as well, where it is alone: that is what the ranks' results are compared with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rounds
import tiny
import torch
from safetensors.torch import save_file

from sartor import registry
from sartor.engine.anchor import Anchor
from sartor.engine.anchors import ewc
from sartor.engine.loop import Plan, fit
from sartor.engine.optimizers import adamw
from sartor.engine.parallel.replicas import Replicas
from sartor.engine.parallel.shards import Shards
from sartor.engine.parallel.world import ALONE, World, join, leave
from sartor.engine.precision import Masters
from sartor.engine.schedules import constant
from sartor.engine.state import read_weights
from sartor.engine.updater import Updater
from sartor.engine.validation import mean_loss
from sartor.engine.watchers import best
from sartor.errors import SartorError
from sartor.events import Event
from sartor.generate.local import LocalGenerator
from sartor.methods import probe
from sartor.models.base import VALUE
from sartor.models.heads import HeadSpec
from sartor.models.policy import CausalPolicy
from sartor.models.still import Still
from sartor.objectives import classify
from sartor.rollouts.rewards import ByFunction, Weighted
from sartor.rollouts.together import Company, Dealt, Led
from sartor.rollouts.validation import answered, validate
from sartor.store.checkpoint import Checkpoints
from sartor.tokens.batch import Rendered, collate
from sartor.tokens.source import Seat, StepSize, TokenSource

REWARDS = (rounds.Same(), ByFunction("rank", lambda texts, rows: [len(set(texts[:n])) / 9 for n in range(len(texts))]))
"""One that judges each answer by itself, and one that compares all of a round."""

ROWS = 22
EXAMPLES = 6


def policy(method: str = "full", dtype: str = "float32", seed: int = 0, **changes: Any) -> CausalPolicy:
    """A tiny model with a method attached."""
    made = tiny.policy(seed=seed, dtype=getattr(torch, dtype), **changes)
    module = registry.component("method", method)
    module.attach(made, module.Options(**{"rank": 4} if method == "lora" else {}), seed=7)
    return made


def masters(over: CausalPolicy, strategy: str, world: World, dtype: str) -> Masters:
    """The weights as `strategy` holds them."""
    if strategy == "ddp":
        return Replicas(over.trainable(), world)
    return Shards(over, world, getattr(torch, dtype)) if strategy == "fsdp2" else Masters(over.trainable())


def train(
    folder: Path,
    *,
    world: World = ALONE,
    strategy: str = "none",
    method: str = "full",
    dtype: str = "float32",
    model: str = "llama",
    seed: int = 0,
    micro_tokens: int | None = 40,
    examples: int = EXAMPLES,
    stop_after: int = 0,
    tight: int = 0,
    steps: int | None = None,
    wrong: int = 0,
    checkpointed: bool = False,
    anchor: str = "",
    **changes: Any,
) -> tuple[CausalPolicy, list[Event]]:
    """An epoch and a half of `ROWS` ragged rows; the policy ends with the whole weights of the best step.

    stop_after: ask to stop at this step. tight: fail for want of memory in batches of more tokens, on the last rank.
    wrong: change a weight of the last rank before this step. anchor: l2_start or ewc.
    """
    over = policy(method, dtype, seed, name=model, **changes)
    if checkpointed:
        over.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    weights = masters(over, strategy, world, dtype)
    held = None
    if anchor:
        important = ewc.importance(over, weights, tiny.rows(5, seed=2)) if anchor == "ewc" else None
        held = Anchor(weights, 30.0, important)
    updater = Updater(weights, adamw, adamw.Options(), learning_rate=1e-3, clip_norm=1.0, anchor=held)
    seat = Seat(world.rank, world.size, weights.lockstep)
    source = TokenSource(
        tiny.Rows(tiny.rows(ROWS)),
        size=StepSize(examples=examples),
        micro_tokens=micro_tokens,
        seed=3,
        epochs=1.5,
        steps=steps,
        seat=seat,
    )
    held_out = [collate([row]) for row in tiny.rows(ROWS)[:5]]
    mine = held_out[world.rank :: world.size]
    if weights.lockstep and len(mine) < -(-len(held_out) // world.size):
        mine.append(nothing(held_out[0]))
    checkpoints = Checkpoints(folder, lambda note: None, ranks=world)
    taken: list[Event] = []

    def objective(each: CausalPolicy, batch: Any) -> Any:
        if tight and batch.tokens > tight and world.rank == world.size - 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        if wrong and source.done == wrong and world.rank == world.size - 1:
            next(iter(weights.masters.values())).data.view(-1)[0] += 1e-3
        return tiny.objective(each, batch)

    plan = Plan(
        seed=3,
        factor=lambda step, steps: constant.factor(step, steps, constant.Options(warmup=0.0)),
        validate_every=3,
        save_every=2,
        keep=10,
    )
    try:
        for event in fit(
            over,
            objective,
            source,
            updater,
            plan,
            validate=lambda: mean_loss(over, mine, weights),
            watchers=[best.build("loss", sign=-1.0, min_delta=0.0, patience=3)],
            checkpoints=checkpoints,
            stop_asked=lambda: bool(stop_after) and source.done >= stop_after and world.rank == world.size - 1,
        ):
            taken.append(event)
    except SartorError as fault:
        taken.append(fault)  # type: ignore[arg-type]
    if strategy == "fsdp2":
        over = policy(method, dtype, seed, name=model, **changes)
        newest = checkpoints.best() or checkpoints.newest()
        assert newest is not None
        read_weights(newest, Masters(over.trainable()))
    return over, taken


def write(
    folder: Path,
    *,
    objective: str,
    world: World = ALONE,
    seed: int = 0,
    stop_after: int = 0,
    ptx: bool = False,
    **settings: Any,
) -> tuple[CausalPolicy, list[Event]]:
    """Eight steps on rounds that the policy writes, two passes over each; with `ptx` on rows of the data as well."""
    module = registry.component("objective", objective)
    small = {"prompts": 5, "samples": 2, "passes": 2}
    options = module.Options(**small, **({"ptx": 0.5} if ptx else {}))
    over = tiny.policy(vocab_size=rounds.VOCABULARY, seed=seed)
    over.model.requires_grad_(True)
    if options.credit.rule == "gae":
        over.add_value_head()
    company = Company(Seat(world.rank, world.size), world)
    alone, compared = REWARDS
    reward = Weighted([(Dealt(alone, company), 1.0), (Led(compared, company), 0.5)])
    reference = Still(tiny.policy(vocab_size=rounds.VOCABULARY))
    events: list[Event] = []
    source = rounds.source(
        over,
        module,
        options,
        reference=reference,
        reward=reward,
        prompts=rounds.Prompts(7),
        examples=5,
        tokens=4,
        micro_tokens=24,
        company=company,
        emit=events.append,
        folder=folder / "answers" if world.first else None,
        mix=[replace(row, ids=row.ids % rounds.VOCABULARY) for row in tiny.rows(6)] if ptx else (),
    )
    asked = [source.prompts[place] for place in range(3)]
    generator: LocalGenerator = source.generator

    def measure() -> dict[str, float]:
        answers = answered(generator, asked, max_new_tokens=4, most_tokens=64, company=company)
        return validate(over, reference, answers, reward, unfinished=0.1, company=company)

    held = Replicas(over.trainable(), world) if not world.alone else None
    try:
        events += rounds.learn(
            over,
            source,
            module,
            options,
            folder,
            weights=held,
            world=world,
            save_every=2,
            keep=10,
            validate_every=4,
            validate=measure,
            stop_asked=lambda: bool(stop_after) and source.done >= stop_after and world.rank == world.size - 1,
            **settings,
        )
    except SartorError as fault:
        events.append(fault)  # type: ignore[arg-type]
    return over, events


def sort(
    folder: Path, *, head: str, world: World = ALONE, strategy: str = "none", dtype: str = "float32"
) -> tuple[CausalPolicy, list[Event]]:
    """Nine steps of a head alone, on features of a model that stays as it is."""
    classes = HeadSpec("classes", ("bad", "good", "so so"))
    begun = tiny.headed(head, classes, dtype=getattr(torch, dtype))
    probe.attach(begun, probe.Options(), seed=7)
    rows = [
        Rendered(row.ids, np.eye(len(row), dtype=np.float32)[-1], row.row, np.array([place % 3], np.float32))
        for place, row in enumerate(tiny.rows(ROWS))
    ]
    sets = [tiny.Rows(rows)]
    begun.features.keep(sets, folder / "features", base=head, rank=world.rank, size=world.size, ranks=world)
    held = masters(begun, strategy, world, dtype)
    seat = Seat(world.rank, world.size, held.lockstep)
    source = TokenSource(sets[0], size=StepSize(examples=5), micro_tokens=40, seed=3, steps=9, seat=seat)
    updater = Updater(held, adamw, adamw.Options(), learning_rate=1e-2, clip_norm=1.0)
    checkpoints = Checkpoints(folder / "checkpoints", lambda note: None, ranks=world)
    plan = Plan(
        seed=3,
        factor=lambda step, steps: constant.factor(step, steps, constant.Options(warmup=0.0)),
        validate_every=100,
        save_every=100,
    )

    def objective(each: CausalPolicy, batch: Any) -> Any:
        return classify.loss(each, batch, classify.Options())

    events = list(fit(begun, objective, source, updater, plan, validate=None, watchers=[], checkpoints=checkpoints))
    if strategy == "fsdp2":
        begun = tiny.headed(head, classes, dtype=getattr(torch, dtype))
        probe.attach(begun, probe.Options(), seed=7)
        newest = checkpoints.newest()
        assert newest is not None
        read_weights(newest, Masters(begun.trainable()))
    return begun, events


def weights(over: CausalPolicy) -> dict[str, torch.Tensor]:
    """Copies of all parameters, and of those of a value head."""
    more = {name: value.detach().clone() for name, value in over.trainable().items() if name.startswith(VALUE)}
    return tiny.weights(over) | more


def nothing(batch: Any) -> Any:
    """A batch like this one in which nothing counts."""
    return replace(batch, weight=torch.zeros_like(batch.weight))


def told(events: Sequence[Any]) -> list[Any]:
    """Events, and the fault that ended them, as JSON."""
    return [[p.code for p in e.problems] + [str(e)] if isinstance(e, SartorError) else e.json() for e in events]


def work_of(job: dict[str, Any]) -> Any:
    """The function that does a job."""
    if "objective" in job:
        return write
    return sort if "head" in job else train


def main() -> None:
    torch.set_num_threads(1)
    folder, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
    world = join(os.environ, timeout=60)
    for job in jobs:
        name, place = job.pop("name"), folder / job.pop("into")
        over, events = work_of(job)(place, world=world, **job)
        save_file(weights(over), folder / f"{name}-{world.rank}.safetensors")
        (folder / f"{name}-{world.rank}.json").write_text(json.dumps(told(events)))
    leave()


if __name__ == "__main__":
    main()
