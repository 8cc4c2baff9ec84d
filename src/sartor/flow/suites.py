"""Measures base and tuned model on the suites of a recipe; what was measured before is read again.

suites/NAME/MODEL.jsonl      outcomes of one model, unit by unit
answers/NAME/answers.jsonl   what judges and other models said, so that nothing is asked twice
suites/NAME.json             title, scores, differences, tables and charts, as the report shows them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sartor import registry
from sartor.evaluate import suites
from sartor.evaluate.general import MOST, General, Options
from sartor.evaluate.outcomes import collect, read_outcomes
from sartor.evaluate.suites import Ground, Subject, Suite
from sartor.events import Noted, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from sartor.evaluate.compare import Comparison
    from sartor.flow.handover import Material
    from sartor.flow.measure import Bench
    from sartor.flow.prepare import Emit, Prepared
    from sartor.flow.writers import Opener
    from sartor.models.base import ModelPolicy
    from sartor.protocols import Outcome, Traits
    from sartor.recipe.schema import Component
    from sartor.store.run import Run

FOLDER = "suites"
ANSWERS = "answers"
SUBJECTS = ("base", "tuned")
"""Models of a run that suites measure; few-shot examples are of the task, and no part of another test."""


@dataclass(frozen=True, slots=True)
class Suites:
    """The suites of one run by name, and what they know of it."""

    ground: Ground
    all: Mapping[str, Suite]
    opened: Opener | None = None
    """The models that suites ask."""

    @property
    def metrics(self) -> list[str]:
        """Names that gates may use."""
        return [metric.name for suite in self.all.values() for metric in suite.metrics]


def of_run(prepared: Prepared, train: Sequence[int], test: Sequence[int], max_new_tokens: int) -> Suites:
    """Build every suite of the recipe. Raises InputError with what is wrong with their options and files."""
    from sartor.flow.model import load
    from sartor.flow.writers import opener

    loaded = prepared.loaded
    recipe = loaded.recipe
    opened = opener(loaded.root)
    ground = Ground(
        root=loaded.root,
        rows=prepared.rows.dataset,
        train=train,
        test=test,
        max_new_tokens=max_new_tokens,
        seed=recipe.seed,
        confidence=recipe.evaluate.confidence,
        models=opened,
        classifiers=lambda model: load(model, root=loaded.root).probabilities,
        known={},
        base=recipe.base.model,
    )
    chosen = suites.chosen(recipe.evaluate)
    if recipe.evaluate.general == "auto":
        _decide_general(prepared, chosen)
    built = {name: suites.build(name, one, ground) for name, one in chosen.items()}
    probe = built.get(suites.PROBE)
    if isinstance(probe, General) and (recipe.evaluate.probe or Options()).rows == "auto":
        count = len(probe) + len(probe.kept)
        prepared.resolution.decide("evaluate.general.rows", count, f"all {count:,} questions, at most {MOST:,}")
    return Suites(ground, built, opened)


def writes(prepared: Material) -> bool:
    """Whether what is trained continues text, so that it can be asked for answers."""
    traits: Traits = registry.component("objective", prepared.settings.objective.name).TRAITS
    return prepared.settings.head is None and not traits.symbols


def _decide_general(prepared: Prepared, chosen: dict[str, Component]) -> None:
    """General ability is asked of models that write text."""
    if writes(prepared):
        value: Any = chosen[suites.PROBE].options.model_dump()
        prepared.resolution.decide("evaluate.general", value, "the model writes text")
    else:
        del chosen[suites.PROBE]
        prepared.resolution.decide("evaluate.general", False, "the model writes no text")


def measure(
    name: str,
    policy: ModelPolicy | None,
    outcomes: Sequence[Outcome],
    tools: Bench,
    prepared: Prepared,
    run: Run,
    emit: Emit,
) -> None:
    """Measure one model on every suite. `policy` may be None where all of its files are finished."""
    held = tools.suites
    held.ground.known[name] = outcomes
    answers = run.folder / ANSWERS
    for title, suite in held.all.items():
        path = _path(run, title, name)
        if not path.exists() and policy is not None and policy.head is not None and suite.speaks:
            emit(Noted("warning", "E117", f"{title} needs a model that writes text, and this one has a head: left out"))
            continue

        def measured(units: Sequence[int], suite: Suite = suite, title: str = title) -> Any:
            assert policy is not None
            subject = Subject(name, policy, prepared.renderer, outcomes, tools.batch, emit, answers / title)
            return suite.measure(subject, units)

        if not path.exists() and policy is not None:
            emit(Stage("suite", f"{suite.title} of {name}: {len(suite):,}"))
        if path.exists() or policy is not None:
            collect(path, range(len(suite)), measured)
    if held.opened is not None:
        held.opened.forget()


def missing(tools: Bench, run: Run, name: str) -> bool:
    """Whether a model has still to be measured on a suite."""
    return any(not _path(run, title, name).exists() for title in tools.suites.all)


def compared(tools: Bench, prepared: Prepared, run: Run) -> dict[str, Comparison]:
    """The comparison of every suite that was measured, by its name; what the report shows is written beside the outcomes."""
    evaluate = prepared.loaded.recipe.evaluate
    found: dict[str, Comparison] = {}
    for name, suite in tools.suites.all.items():
        paths = {model: _path(run, name, model) for model in SUBJECTS}
        outcomes = {model: read_outcomes(path) for model, path in paths.items() if path.exists()}
        if not outcomes or not next(iter(outcomes.values())):
            continue
        found[name], body = suites.told(
            name,
            suite,
            outcomes,
            evaluate=evaluate,
            seed=prepared.loaded.recipe.seed,
        )
        run.write_json(f"{FOLDER}/{name}.json", body)
    return found


def shown(run: Run, names: Sequence[str]) -> list[dict[str, Any]]:
    """What the report shows of each suite."""
    return [body for name in names if (body := run.read_json(f"{FOLDER}/{name}.json")) is not None]


def _path(run: Run, suite: str, model: str) -> Path:
    return run.folder / FOLDER / suite / f"{model}.jsonl"
