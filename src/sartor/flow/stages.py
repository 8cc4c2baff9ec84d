"""A recipe's training stages: what each is prepared from, and the chain of models they make.

Every stage is prepared before the first one trains, so that a fault in any of them stops the run while nothing is written.
Rows of a stage that has data of its own must not give away the rows the verdict is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sartor import registry
from sartor.advise.parallel import ONE, Processes
from sartor.data.writing import as_ours
from sartor.errors import RecipeError
from sartor.flow.model import find
from sartor.flow.prepare import Emit, Prepared, prepare
from sartor.models.catalog import ModelFolder, resolve
from sartor.objectives._rounds import Reward, Rounds
from sartor.store.fingerprint import weights

if TYPE_CHECKING:
    from sartor.events import Finished
    from sartor.protocols import Models, Traits
    from sartor.recipe.load import Loaded
    from sartor.store.run import Run

HELD_OUT = "held-out.jsonl"
"""The test rows as a file, beside the rows of a run that has further data."""
WHOLE = "whole"
"""Folder of a stage with its adapter merged into the model that the next stage begins with."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a run."""

    number: int
    count: int
    prepared: Prepared
    place: str = ""
    """The folder of its rows below that of the run's; empty where they are the run's."""

    @property
    def name(self) -> str:
        """What it minimises."""
        return self.prepared.settings.objective.name

    @property
    def told(self) -> str:
        """How it is called where there are several: `reward, 2 of 3`."""
        return self.name if self.count == 1 else f"{self.name}, {self.number + 1} of {self.count}"

    @property
    def last(self) -> bool:
        """Whether its model is the run's."""
        return self.number + 1 == self.count

    @property
    def traits(self) -> Traits:
        """What its objective is about."""
        traits: Traits = registry.component("objective", self.name).TRAITS
        return traits

    def folder(self, run: Run) -> Path:
        """Where its checkpoints lie."""
        return run.stage(self.number, self.name)

    def data(self, run: Run) -> Path:
        """Where its rows lie."""
        return run.folder / "data" / self.place

    def model(self, run: Run) -> Path:
        """Where its model is put."""
        return run.folder / "model" if self.last else self.folder(run) / "model"

    def finished(self, run: Run) -> bool:
        """Whether its model is there."""
        return (self.model(run) / "COMPLETE").exists()

    def beginning_with(self, start: ModelFolder | None) -> Stage:
        """The same stage on the model that an earlier one has made; None: on the recipe's base."""
        return self if start is None else replace(self, prepared=replace(self.prepared, base=start))

    def judged(self, stages: Sequence[Stage], run: Run) -> Stage:
        """The same stage with the models of earlier ones where its rewards name them."""
        settings = self.prepared.settings
        options = settings.objective.options
        if not isinstance(options, Rounds):
            return self
        made = {stage.name: str(stage.model(run).resolve()) for stage in stages[: self.number]}
        rewards = tuple(
            each if each.stage is None else each.model_copy(update={"model": made[each.stage], "stage": None})
            for each in options.rewards
        )
        objective = settings.objective.model_copy(update={"options": options.model_copy(update={"rewards": rewards})})
        return replace(self, prepared=replace(self.prepared, settings=replace(settings, objective=objective)))


def with_judges(loaded: Loaded) -> Loaded:
    """The recipe with the reward models of earlier stages as the rewards of those that name no other.

    Raises RecipeError R106 for a reward that names a stage which makes no judge, or does not come before.
    """
    stages = [_with_judge(stage, loaded.stages[:number]) for number, stage in enumerate(loaded.stages)]
    if not loaded.listed:
        return stages[0]
    place = [number for number, stage in enumerate(loaded.stages) if "data" not in stage.own]
    main = stages[place[-1]] if place else loaded
    return replace(loaded, recipe=main.recipe, listed=tuple(stages))


def _with_judge(stage: Loaded, before: Sequence[Loaded]) -> Loaded:
    train = stage.recipe.train
    if train.objective == "auto" or not isinstance(train.objective.options, Rounds):
        return stage
    objective, options = train.objective, train.objective.options
    judges = [name for each in before if (name := _judge(each)) is not None]
    for number, reward in enumerate(options.rewards):
        if reward.stage is not None and reward.stage not in judges:
            what = f"there is no stage {reward.stage} before this one that makes a reward model"
            key = f"train.objective.{objective.name}.rewards[{number}]"
            fix = "train: [..., {objective: reward, data: PAIRS}, ...] before it, or {model: PATH}"
            raise RecipeError(stage.problem("R106", key, what, fix=fix))
    if options.rewards or not judges:
        return stage
    options = options.model_copy(update={"rewards": (Reward(stage=judges[-1]),)})
    train = train.model_copy(update={"objective": objective.model_copy(update={"options": options})})
    return replace(stage, recipe=stage.recipe.model_copy(update={"train": train}))


def _judge(stage: Loaded) -> str | None:
    """The objective of a stage that makes a reward model."""
    objective = stage.recipe.train.objective
    if objective == "auto" or registry.component("objective", objective.name).TRAITS.head != "reward":
        return None
    return objective.name


def asked_files(stage: Loaded) -> dict[str, Path]:
    """What a stage asks beside the rows and the base, as written -> file: a teacher, reward models, functions of the user's."""
    recipe = stage.recipe
    objective = recipe.train.objective
    options = None if objective == "auto" else objective.options
    rewards = options.rewards if isinstance(options, Rounds) else ()
    teacher: str | None = getattr(options, "teacher", None)
    chosen = () if recipe.evaluate.metrics == "auto" else recipe.evaluate.metrics
    metrics = [*chosen, recipe.train.stop.on, *(reward.metric for reward in rewards if reward.metric is not None)]
    names = [metric.name for metric in metrics] + [gate.metric for gate in recipe.goal.success]
    functions = [reward.function for reward in rewards if reward.function is not None]
    files = {
        file: stage.root / file for name in (*names, *functions) if (file := name.rpartition(":")[0]).endswith(".py")
    }
    for reference in (teacher, *(reward.model for reward in rewards)):
        if reference is not None:
            folder = find(reference, stage.root)
            parts = {folder.path, folder.root.path}
            files |= {f"{reference}/{path.name}": path for part in sorted(parts) for path in weights(part)}
    return {name: path for name, path in files.items() if path.exists()}


def prepare_stages(
    loaded: Loaded,
    main: Prepared,
    folder: Path,
    emit: Emit,
    *,
    now: datetime | None = None,
    processes: Processes = ONE,
    models: Models | None = None,
) -> tuple[Stage, ...]:
    """Every stage in order; `main` is prepared already, the others are in folders below `folder`. Raises InputError."""
    stages = loaded.stages
    if not loaded.listed:
        return (Stage(0, 1, main),)
    shared = [number for number, stage in enumerate(stages) if "data" not in stage.own]
    made: list[Stage] = []
    for number, stage in enumerate(stages):
        if shared and number == shared[-1]:
            made.append(Stage(number, len(stages), main))
            continue
        place = f"stage-{number}"
        held_out = None if number in shared else _held_out(main, folder)
        prepared = prepare(stage, folder / place, emit, now=now, processes=processes, models=models, held_out=held_out)
        made.append(Stage(number, len(stages), prepared, place))
    _same_head(loaded, made, main)
    return tuple(made)


def _held_out(main: Prepared, folder: Path) -> Path:
    """The test rows as a file."""
    path, dataset = folder / HELD_OUT, main.rows.dataset
    test = np.unique(main.tokens["test"].rows).tolist()
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(as_ours(dataset[index]), ensure_ascii=False) + "\n" for index in test)
    return path


def _same_head(loaded: Loaded, stages: Sequence[Stage], main: Prepared) -> None:
    """Raises RecipeError R106 where the rows of the verdict are not for what the last stage's model gives."""
    last = stages[-1]
    wanted: Traits = registry.component("objective", main.settings.objective.name).TRAITS
    if last.traits.head == wanted.head:
        return
    what = (
        f"the last stage, {last.name}, makes a model for {last.traits.head}, "
        f"but the recipe's data, which the verdict is about, is for {wanted.head}"
    )
    fix = f"put the rows of {last.name} at data, and give the stages before it data of their own"
    raise RecipeError(loaded.stages[-1].problem("R106", "train.objective", what, fix=fix))


def starts(stages: Sequence[Stage], run: Run) -> Iterator[tuple[Stage, ModelFolder | None]]:
    """Each stage with the model it begins with, which is there by then; None: the recipe's base.

    A model with another head than words, such as a reward model, is no beginning for the stages after it. A stage that starts
    with the base has an adapter, or a model, of its own.
    """
    start: ModelFolder | None = None
    for stage in stages:
        own = stage.prepared.loaded.recipe.train.start == "base"
        yield stage, None if own else start
        if not stage.last and stage.traits.head == "words":
            start = _whole(stage, run)


def _whole(stage: Stage, run: Run) -> ModelFolder:
    """The model of a finished stage; an adapter is merged into its base, once."""
    from sartor.flow.merge import merge_adapter

    made = resolve(str(stage.model(run).resolve()), Path("/"))
    if made.base is None:
        return made
    merged = stage.folder(run) / WHOLE
    if not merged.exists():
        merge_adapter(made, merged)
    return resolve(str(merged.resolve()), Path("/"))


def resolved(main: Prepared, stages: Sequence[Stage]) -> str:
    """Every value of the run with its reason, as a recipe."""
    if len(stages) == 1:
        return main.resolution.to_yaml()
    return main.resolution.to_yaml([(stage.prepared.resolution, stage.prepared.loaded.own) for stage in stages])


def together(finished: Sequence[Finished]) -> Finished:
    """What all stages took: steps, tokens and seconds added up, the best step and the reason of the last one."""
    last = finished[-1]
    return replace(
        last,
        step=sum(each.step for each in finished),
        tokens=sum(each.tokens for each in finished),
        supervised=sum(each.supervised for each in finished),
        seconds=sum(each.seconds for each in finished),
        peak_memory_bytes=max(each.peak_memory_bytes for each in finished),
    )
