"""Measures one model on the locked test rows, exactly as every other model is measured."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sartor import registry
from sartor.console import REWARD, size
from sartor.data.rows import Example, Judged, Prompt
from sartor.errors import DataError, Problem, RecipeError, raise_errors
from sartor.evaluate import metrics as metric_files
from sartor.evaluate.outcomes import PART, collect, read_outcomes, to_line
from sartor.evaluate.shots import choose_shots, fit_shots
from sartor.evaluate.slices import require as require_slices
from sartor.evaluate.suites import Ground
from sartor.evaluate.verdict import check as check_gates
from sartor.events import Noted
from sartor.flow.answers import answers, by_features
from sartor.flow.forecast import fitting_batch
from sartor.flow.remeasure import lacking, merged, note
from sartor.flow.rivals import Rivals
from sartor.flow.rivals import of_run as of_rivals
from sartor.flow.rivals import outcomes as rival_outcomes
from sartor.flow.rounds import RewardMetric
from sartor.flow.suites import Suites, of_run
from sartor.objectives._rounds import Rounds
from sartor.recipe.schema import by_suite
from sartor.store import atomic

if TYPE_CHECKING:
    from sartor.flow.prepare import Emit, Prepared
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Metric, Outcome
    from sartor.recipe.schema import Component
    from sartor.store.run import Run

MOST_ROWS = 1000
MOST_NEW_TOKENS = 512
MOST_SHOTS = 5
BATCH = 32
WORDLESS = ("pretrain", "prefer", "regress", "tag")
"""Tasks whose test rows are not answered in words."""
ACCESSES = "data/test_accesses.json"


@dataclass(frozen=True, slots=True)
class Bench:
    """What every model is measured with."""

    metrics: Sequence[Metric]
    want: frozenset[str]
    indices: Sequence[int]
    """Dataset indices of the test rows used."""
    labels: Sequence[str]
    shots: Sequence[Example]
    max_new_tokens: int
    batch: int
    suites: Suites = field(default_factory=lambda: Suites(Ground(Path()), {}))
    """What models are measured on beside the test rows."""
    rivals: Rivals = field(default_factory=Rivals)
    """What the tuned model is compared with."""


def bench(prepared: Prepared, emit: Emit) -> Bench:
    """Decide every open value of `evaluate`. Raises RecipeError for unknown metrics and gates that cannot be decided."""
    recipe, resolution, task = prepared.loaded.recipe, prepared.resolution, prepared.settings.task
    wanted, dataset = recipe.evaluate, prepared.rows.dataset
    rewarded = registry.component("objective", prepared.settings.objective.name).TRAITS.reads == "prompt"
    train = np.unique(prepared.tokens["train"].rows)
    test = np.unique(prepared.tokens["test"].rows)
    if not len(test):
        raise DataError(
            Problem(
                "D116", "there are no test rows, so nothing can be proven", fix="data.split.test: 0.1, or more rows"
            )
        )
    most = min(len(test), MOST_ROWS if wanted.rows == "auto" else wanted.rows)
    indices = np.sort(np.random.default_rng([recipe.seed, 2]).permutation(test)[:most])
    if wanted.metrics == "auto" and dataset[0].kind == Prompt.kind:
        names = [REWARD]
        resolution.decide("evaluate.metrics", names, "the rows have no answers to compare with")
    elif wanted.metrics == "auto":
        sample = [dataset[int(index)].answer_text() for index in train[:200]]
        names = metric_files.defaults(task, sample)
        if registry.component("objective", prepared.settings.objective.name).TRAITS.symbols:
            names = ["perplexity"]
        if task == "prefer":
            verdicts = dataset[0].kind == Judged.kind
            names = metric_files.of_answers(verdicts=verdicts, reward=prepared.settings.head is not None)
        resolution.decide(
            "evaluate.metrics", names, f"usual for {task}" + (", answers are JSON" * ("json_valid" in names))
        )
    else:
        names = []
    chosen: list[str | Component] = [
        *names,
        *(wanted.metrics if wanted.metrics != "auto" else ()),
        *(gate.metric for gate in recipe.goal.success if not by_suite(gate.metric)),
    ]
    if rewarded:
        chosen = [metric for metric in chosen if metric_files.name_of(metric) != REWARD]
    metrics = metric_files.load(chosen, prepared.loaded.root)
    if rewarded:
        metrics.insert(0, RewardMetric(prepared, indices.tolist()))
    elif recipe.train.stop.on.name != "loss":
        metric_files.load([recipe.train.stop.on], prepared.loaded.root)
    if wanted.rows == "auto":
        resolution.decide("evaluate.rows", most, f"all {len(test):,} test rows, at most {MOST_ROWS:,}")
    longest = new_tokens(prepared)
    suites = of_run(prepared, train.tolist(), indices.tolist(), longest)
    known = [*(metric.name for metric in metrics), *suites.metrics]
    problems = check_gates(
        (*recipe.goal.success, *recipe.further_gates),
        against=wanted.names,
        metrics=known,
        rows=most,
        slices=[one.field for one in wanted.slices],
    )
    require_slices(wanted.slices, [dataset[int(index)].columns for index in indices] if wanted.slices else [])
    raise_errors(RecipeError, problems)
    for problem in problems:
        emit(Noted(problem.level, problem.code, problem.what))
    labels = labels_of(prepared, train) if task == "classify" else []
    want = metric_files.wants(metrics, task if labels or task != "classify" else "generate")
    if wanted.human is not None and (task in WORDLESS or prepared.settings.head is not None):
        what = f"people cannot read what a model of task {task} gives: it writes no answers to the test rows"
        raise RecipeError(Problem("R106", what, fix="leave evaluate.human out"))
    if wanted.judge or wanted.human is not None:
        want |= {"prediction"}
    few = "few_shot" in wanted.against and task not in ("pretrain", "prefer") and not by_features(prepared)
    shots = _shots(prepared, train, indices, longest) if few else ()
    rivals = of_rivals(prepared, train.tolist(), indices.tolist(), few_shot=bool(shots) or (few and wanted.shots == 0))
    return Bench(
        metrics=metrics,
        want=want,
        indices=[int(index) for index in indices],
        labels=labels,
        shots=shots,
        max_new_tokens=longest,
        batch=_batch(prepared, want, len(shots), longest),
        suites=suites,
        rivals=rivals,
    )


def labels_of(prepared: Prepared, train: np.ndarray) -> list[str]:
    """The labels of the training rows."""
    rows = (prepared.rows.dataset[int(index)] for index in train)
    return sorted({row.label for row in rows if isinstance(row, Example) and row.label is not None})


def _batch(prepared: Prepared, want: frozenset[str], shots: int, new_tokens: int) -> int:
    batch = prepared.loaded.recipe.evaluate.batch
    if batch != "auto":
        return batch
    chosen = fitting_batch(prepared, want, shots=shots, new_tokens=new_tokens, most=BATCH)
    free = size(prepared.settings.hardware.memory)
    why = "answers generated together" if chosen == BATCH else f"as many as fit into {free} of free memory"
    prepared.resolution.decide("evaluate.batch", chosen, why)
    return chosen


def new_tokens(prepared: Prepared) -> int:
    """Longest answer that is generated, decided where the recipe leaves it open."""
    wanted = prepared.loaded.recipe.evaluate.max_new_tokens
    if wanted != "auto":
        return wanted
    objective = prepared.settings.objective
    if isinstance(objective.options, Rounds):
        value = objective.options.max_new_tokens
        prepared.resolution.decide("evaluate.max_new_tokens", value, f"as {objective.name} lets the policy answer")
        return value
    rows = prepared.tokens["train"]
    step = max(1, len(rows) // 1000)
    longest = max(rows[index].supervised for index in range(0, len(rows), step))
    value = min(max(math.ceil(1.5 * longest), 8), MOST_NEW_TOKENS)
    why = f"1.5 times the longest training answer ({longest} tokens), at most {MOST_NEW_TOKENS}"
    prepared.resolution.decide("evaluate.max_new_tokens", value, why)
    return value


def _shots(prepared: Prepared, train: np.ndarray, test: np.ndarray, room: int) -> list[Example]:
    recipe, dataset = prepared.loaded.recipe, prepared.rows.dataset
    wanted = recipe.evaluate.shots
    count = MOST_SHOTS if wanted == "auto" else wanted
    read = train[prepared.rows.originals[train]]
    chosen = choose_shots(dataset, [int(index) for index in read], count=count, seed=recipe.seed)
    rows = [row for index in test if isinstance(row := dataset[int(index)], Example)]
    fitting = fit_shots(chosen, rows, prepared.renderer, window=prepared.base.root.window, room=room)
    if wanted == "auto":
        why = f"as many as fit the window, at most {MOST_SHOTS}; fewer where validation rows say so"
        prepared.resolution.decide("evaluate.shots", len(fitting), why)
    elif len(fitting) < wanted:
        raise RecipeError(
            Problem(
                "R147",
                f"evaluate.shots is {wanted}, but only {len(fitting)} fit into the model's window",
                fix=f"evaluate.shots: {max(1, len(fitting))}, or evaluate.against: [base]",
            )
        )
    return fitting


def measure(
    name: str, policy: ModelPolicy | None, tools: Bench, prepared: Prepared, run: Run, emit: Emit
) -> list[Outcome]:
    """The outcomes of one model on the test rows, kept in predictions/NAME.jsonl; a finished file is read again.

    Every time the test rows are opened is written down. `policy` may be None where the file is finished, and for `tools.rivals.others`.
    """
    path = run.folder / "predictions" / f"{name}.jsonl"
    missing = lacking(run, name, tools.want)
    if not path.exists() or missing:
        count_access(run, name, len(tools.indices))

    def outcomes(indices: Sequence[int], tools: Bench = tools) -> Iterator[Outcome]:
        if name in tools.rivals.others or name in tools.rivals.found:
            return rival_outcomes(name, prepared, policy, indices, tools, emit)
        if name == "few_shot" and not tools.shots and kept(run.folder, "base"):
            same = {outcome.id: outcome for outcome in read_outcomes(run.folder / "predictions" / "base.jsonl")}
            rows = [prepared.rows.dataset[index] for index in indices]
            return iter([same[row.id or str(row.origin)] for row in rows])
        assert policy is not None
        return answers(prepared, policy, indices, tools, name=name, want=tools.want, emit=emit)

    if not path.exists():
        if missing:
            path.with_name(path.name + PART).unlink(missing_ok=True)
        note(run, name, tools.want)
        return collect(path, tools.indices, outcomes)
    if not missing:
        return read_outcomes(path)
    beside = path.with_name(f"{name}.{'-'.join(sorted(missing))}.jsonl")
    only = replace(tools, want=missing)
    more = collect(beside, tools.indices, lambda indices: outcomes(indices, only))
    found = [merged(*pair) for pair in zip(read_outcomes(path), more, strict=True)]
    atomic.write_text(path, "".join(to_line(outcome) + "\n" for outcome in found))
    note(run, name, missing)
    beside.unlink()
    return found


def count_access(run: Run, name: str, rows: int) -> None:
    """Write down that the test rows were opened."""
    accesses = run.read_json(ACCESSES) or []
    accesses.append({"time": round(time.time(), 3), "model": name, "rows": rows})
    run.write_json(ACCESSES, accesses)


def accesses(run: Run) -> int:
    """How often the test rows were opened for the verdict of this run; what a stage of several made of them is no part of it."""
    return sum(not str(entry["model"]).startswith("stage ") for entry in run.read_json(ACCESSES) or [])


def kept(folder: Path, name: str) -> bool:
    """Whether a model's outcomes are already there."""
    return (folder / "predictions" / f"{name}.jsonl").exists()


def whole(run: Run, name: str, tools: Bench) -> bool:
    """Whether a model's outcomes are already there with all that is wanted of them."""
    return kept(run.folder, name) and not lacking(run, name, tools.want)
