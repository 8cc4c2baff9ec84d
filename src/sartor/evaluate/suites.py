"""A suite measures models on something beside the test rows of the run: a safety measure, a judge, a benchmark.

Each is one file in `safety/`, `judges/` or `benchmarks/` with `Options`, `METRICS` (the names that gates may use, with * for
what is not known before), `files(options)` (paths that it reads, for the fingerprint) and `suite(options, ground) -> Suite`.
A suite says what one unit is (a prompt, a pair, a question); every model is measured on the same units, so scores have
intervals and differences are taken unit by unit, as on the test rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sartor import registry
from sartor.evaluate.compare import Comparison, compare
from sartor.events import Event
from sartor.protocols import Chart, Metric, Models, Outcome
from sartor.recipe.schema import GENERAL, Component

if TYPE_CHECKING:
    from sartor.data.dataset import Dataset
    from sartor.data.rows import Row
    from sartor.evaluate.answer_cache import AnswerCache
    from sartor.models.base import ModelPolicy
    from sartor.recipe.schema import Evaluate
    from sartor.tokens.render import Renderer

KINDS = ("safety", "judge", "benchmark")
"""Registries that hold suites."""
PROBE = GENERAL
"""The suite of general ability."""

Emit = Callable[[Event], None]
Classify = Callable[[Sequence[str]], Sequence[Mapping[str, float]]]
"""Texts -> the probability of each label for each."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as a suite asks it."""

    name: str
    """base, tuned, or what the user calls it."""
    policy: ModelPolicy
    renderer: Renderer
    outcomes: Sequence[Outcome]
    """What it did on the test rows; empty where there are none."""
    batch: int
    emit: Emit
    folder: Path | None = None
    """Where a suite keeps what is costly to make again, such as the answers of a judge; None: nowhere."""
    cache: AnswerCache | None = None
    """Answers that are known, and where new ones are kept."""

    def answer(
        self, rows: Sequence[Row], *, want: frozenset[str], labels: Sequence[str] = (), max_new_tokens: int = 64
    ) -> Iterator[Outcome]:
        """The outcome of each row in order; `want` as in `evaluate.predict`."""
        from sartor.evaluate.predict import predict

        return predict(
            self.policy,
            self.renderer,
            rows,
            range(len(rows)),
            task=self.name,
            labels=labels,
            max_new_tokens=max_new_tokens,
            batch=self.batch,
            want=want,
            emit=self.emit,
            cache=self.cache,
        )


@dataclass(frozen=True, slots=True)
class Ground:
    """What a suite may know of the run before any model is measured."""

    root: Path
    """Paths of the recipe start here."""
    rows: Dataset | Sequence[Row] = ()
    train: Sequence[int] = ()
    """Indices of training rows."""
    test: Sequence[int] = ()
    """Indices of the test rows that are measured."""
    max_new_tokens: int = 64
    seed: int = 0
    confidence: float = 0.95
    models: Models | None = None
    """Opens a further model that answers: a judge; None where none may be asked."""
    classifiers: Callable[[str], Classify] | None = None
    """Opens a model that tells labels of texts; None where none may be asked."""
    known: dict[str, Sequence[Outcome]] = field(default_factory=dict)
    """What models measured earlier did on the test rows: filled while models are measured."""
    base: str = ""
    """What the recipe calls the base model; empty where there is none."""


class Suite(Protocol):
    """Units, and how a model is measured on some of them."""

    @property
    def title(self) -> str:
        """Of its section in the report."""
        ...

    @property
    def why(self) -> str:
        """One or two sentences: what is measured, on what, and what it does not see."""
        ...

    @property
    def metrics(self) -> Sequence[Metric]:
        """The first is the main one."""
        ...

    @property
    def speaks(self) -> bool:
        """Whether it needs a model that writes text; a model with a head alone is then left out, said aloud."""
        ...

    def __len__(self) -> int:
        """Units, known before any model is measured."""
        ...

    def measure(self, model: Subject, units: Sequence[int]) -> Iterator[Outcome]:
        """One outcome for each of these units, in their order, with an id that is the same for every model."""
        ...


@runtime_checkable
class Pictured(Protocol):
    """A suite or a metric that can also show charts."""

    def charts(self, outcomes: Mapping[str, Sequence[Outcome]]) -> tuple[Chart, ...]:
        """Of all models together."""
        ...


def chosen(evaluate: Evaluate) -> dict[str, Component]:
    """Every suite that a recipe asks for by its name in the run folder: `safety-toxicity`, `judge-pairwise` ..."""
    asked = {"safety": evaluate.safety, "judge": evaluate.judge, "benchmark": evaluate.benchmarks}
    general = {} if evaluate.probe is None else {PROBE: Component(name=GENERAL, options=evaluate.probe)}
    return general | {f"{kind}-{one.name}": one for kind, given in asked.items() for one in given}


def build(name: str, component: Component, ground: Ground) -> Suite:
    """The suite that `chosen` calls by this name. Raises RecipeError or DataError with what is wrong with its options."""
    suite: Suite = _module(name, component).suite(component.options, ground)
    return suite


def _module(name: str, component: Component) -> ModuleType:
    if name == PROBE:
        from sartor.evaluate import general

        return general
    return registry.component(name.partition("-")[0], component.name)


def files(evaluate: Evaluate) -> list[str]:
    """Paths that the suites of a recipe read, as written."""
    found: list[str] = []
    for name, one in chosen(evaluate).items():
        found += _module(name, one).files(one.options)
    return found


def told(
    name: str, suite: Suite, outcomes: Mapping[str, Sequence[Outcome]], *, evaluate: Evaluate, seed: int
) -> tuple[Comparison, dict[str, Any]]:
    """The comparison of all models on a suite, and everything a report shows of it."""
    comparison = compare(
        outcomes,
        suite.metrics,
        confidence=evaluate.confidence,
        resamples=evaluate.resamples,
        seed=seed,
        correction=evaluate.correction,
        test=evaluate.test,
    )
    return comparison, body_of(name, suite, outcomes, comparison)


def body_of(
    name: str, suite: Suite, outcomes: Mapping[str, Sequence[Outcome]], comparison: Comparison
) -> dict[str, Any]:
    """Everything a report shows of a suite."""
    from sartor.evaluate.charts import charts

    own = suite.charts(outcomes) if isinstance(suite, Pictured) else ()
    return {
        "name": name,
        "title": suite.title,
        "why": suite.why,
        "comparison": comparison.json(),
        "charts": [chart.json() for chart in (*own, *charts(outcomes, suite.metrics))],
    }
