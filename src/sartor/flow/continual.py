"""Continual learning measured: after each stage of a list the held-out rows of the tasks of all stages so far.

    continual/1-0.jsonl     outcomes of the model after stage 1 on the test rows of stage 0
    continual.json          the matrix, and what it comes to

A stage that begins with the base (`start: base`) leaves the models of earlier stages beside it, so each of their tasks is still
answered by the last model that has learnt it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.errors import RecipeError
from sartor.evaluate import continual
from sartor.evaluate import metrics as measures
from sartor.evaluate.outcomes import collect, read_outcomes
from sartor.flow.answers import answers
from sartor.flow.measure import MOST_ROWS, count_access, labels_of, new_tokens
from sartor.flow.rounds import RewardMetric
from sartor.models.catalog import resolve

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.flow.measure import Bench
    from sartor.flow.prepare import Emit
    from sartor.flow.stages import Stage
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Metric, Outcome
    from sartor.recipe.auto import Resolution
    from sartor.recipe.load import Loaded
    from sartor.store.run import Run

FOLDER = "continual"
RESULT = "continual.json"


@dataclass(frozen=True, slots=True)
class Task:
    """What one stage is about."""

    stage: Stage
    tools: Bench
    """What its rows are measured with."""
    main: bool
    """Whether its rows are those of the verdict."""


@dataclass(frozen=True, slots=True)
class Course:
    """The tasks of a run in the order they are learnt; none where they are not measured."""

    tasks: tuple[Task, ...] = ()
    metric: Metric | None = None

    def model_of(self, number: int, task: int) -> int:
        """Whose model answers a task after stage `number`: the last one up to it that has learnt it."""
        return max(stage for stage in range(task, number + 1) if task in self._learnt(stage))

    def _learnt(self, number: int) -> set[int]:
        """The tasks that the model of a stage has been trained on."""
        found = {number}
        while number and self.tasks[number].stage.prepared.loaded.recipe.train.start == "previous":
            number -= 1
            found.add(number)
        return found


def of_run(loaded: Loaded, stages: Sequence[Stage], tools: Bench, resolution: Resolution, main: object) -> Course:
    """What will be measured. Raises RecipeError R106 where evaluate.continual asks for what the stages do not allow."""
    wanted = loaded.recipe.evaluate.continual
    obstacle = _obstacle(loaded, stages, tools)
    if wanted == "auto":
        told = obstacle or "several stages with rows of their own and one objective"
        resolution.decide("evaluate.continual", obstacle is None, told)
    elif wanted and obstacle is not None:
        what = f"evaluate.continual needs tasks to compare, and {obstacle}"
        fix = "train: [{objective: sft, data: A}, {objective: sft, data: B}], or evaluate.continual: auto"
        raise RecipeError(loaded.problem("R106", "evaluate.continual", what, fix=fix))
    if obstacle is not None or not wanted:
        return Course()
    metric = tools.metrics[0]
    return Course(tuple(_task(stage, tools, metric, stage.prepared is main) for stage in stages), metric)


def _obstacle(loaded: Loaded, stages: Sequence[Stage], tools: Bench) -> str | None:
    """Why the stages are no tasks that can be compared."""
    first = stages[0].prepared.settings
    if len(stages) < 2:
        return "there is one stage"
    if sum("data" not in stage.own for stage in loaded.stages) > 1:
        return "several stages learn from the same rows"
    if any((stage.name, stage.prepared.settings.head) != (first.objective.name, first.head) for stage in stages):
        return "the stages have different objectives, or heads for different things"
    without = next((stage.told for stage in stages if not len(stage.prepared.tokens["test"])), None)
    if without is not None:
        return f"{without} has no test rows"
    return "a reward is measured" if isinstance(tools.metrics[0], RewardMetric) else None


def _task(stage: Stage, tools: Bench, metric: Metric, main: bool) -> Task:
    if main:
        return Task(stage, tools, main)
    prepared = stage.prepared
    recipe, test = prepared.loaded.recipe, np.unique(prepared.tokens["test"].rows)
    most = MOST_ROWS if recipe.evaluate.rows == "auto" else recipe.evaluate.rows
    picked = np.sort(np.random.default_rng([recipe.seed, 2]).permutation(test)[:most])
    labels = (
        labels_of(prepared, np.unique(prepared.tokens["train"].rows)) if prepared.settings.task == "classify" else []
    )
    own = replace(
        tools,
        want=measures.wants([metric], prepared.settings.task if labels else "generate"),
        indices=[int(index) for index in picked],
        labels=labels,
        shots=(),
        max_new_tokens=new_tokens(prepared),
    )
    return Task(stage, own, main)


def measure(course: Course, number: int, run: Run, emit: Emit) -> None:
    """Measure the model of a finished stage on every task it has learnt; what is there already is not measured again."""
    due = [
        task
        for task in range(min(number + 1, len(course.tasks)))
        if course.model_of(number, task) == number
        and not _by_verdict(course, number, task)
        and not _path(run, number, task).exists()
    ]
    if not due:
        return
    policy = _model(course.tasks[number].stage, run)
    for task in due:
        about = course.tasks[task]
        if about.main:
            count_access(run, f"stage {number}", len(about.tools.indices))
        name = f"task {task + 1} after stage {number + 1}"
        collect(_path(run, number, task), about.tools.indices, partial(_asked, about, policy, name, emit))
    del policy
    gc.collect()


def _asked(about: Task, policy: ModelPolicy, name: str, emit: Emit, indices: Sequence[int]) -> Iterator[Outcome]:
    return answers(about.stage.prepared, policy, indices, about.tools, name=name, want=about.tools.want, emit=emit)


def told(course: Course, tuned: Sequence[Outcome], run: Run) -> dict[str, Any] | None:
    """The matrix, written into the run folder; `tuned` is what the last model did on the rows of the verdict."""
    if course.metric is None:
        return None
    outcomes: dict[continual.Cell, Sequence[Outcome]] = {}
    for number in range(len(course.tasks)):
        for task in range(number + 1):
            model = course.model_of(number, task)
            known = tuned if _by_verdict(course, model, task) else read_outcomes(_path(run, model, task))
            outcomes[number, task] = known
    evaluate, seed = (
        course.tasks[-1].stage.prepared.loaded.recipe.evaluate,
        course.tasks[-1].stage.prepared.loaded.recipe.seed,
    )
    body = continual.told(
        outcomes,
        [called(task.stage) for task in course.tasks],
        course.metric,
        confidence=evaluate.confidence,
        resamples=evaluate.resamples,
        seed=seed,
    )
    run.write_json(RESULT, body)
    return body


def called(stage: Stage) -> str:
    """A task by its files."""
    names = [Path(source.path).name for source in stage.prepared.loaded.recipe.data.sources if source.role != "replay"]
    return f"{stage.number + 1}: {', '.join(names)}"


def render(console: Console, body: Mapping[str, Any]) -> None:
    """The matrix and what it comes to, on a terminal."""
    from sartor.console import printable, table
    from sartor.evaluate.numbers import difference_text, score_text

    share = body["share"]
    names = [task["name"] for task in body["tasks"]]
    lines = [
        [f"after {name}", *(score_text(None if cell is None else cell["value"], share) for cell in line)]
        for name, line in zip(names, body["matrix"], strict=True)
    ]
    table(console, [f"{body['metric']}, held-out rows of", *names], lines)
    for key, text in (("average", score_text), ("backward_transfer", difference_text), ("forgetting", difference_text)):
        value, low, high = (text(body[key][part], share) for part in ("value", "low", "high"))
        console.print(printable(f" {key.replace('_', ' ')} {value} [{low}, {high}]"), soft_wrap=True)


def _by_verdict(course: Course, model: int, task: int) -> bool:
    """Whether the verdict measures the same."""
    return course.tasks[task].main and course.tasks[model].stage.last


def _path(run: Run, number: int, task: int) -> Path:
    return run.folder / FOLDER / f"{number}-{task}.jsonl"


def _model(stage: Stage, run: Run) -> ModelPolicy:
    from sartor.models.load import load

    settings = stage.prepared.settings
    return load(resolve(str(stage.model(run).resolve()), Path("/")), dtype=settings.dtype, device=settings.device)
