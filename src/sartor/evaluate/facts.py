"""What a report tells, as plain data: nothing here is computed, and everything can be read back from a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Said:
    """An answer that the policy wrote for itself to learn from."""

    prompt: str
    answer: str
    reward: float | None
    """None where it could not be told."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """General ability in a stage of training beside its task. Points are (step, value)."""

    metric: str
    """Of the task."""
    task: Sequence[tuple[int, float]]
    general: Sequence[tuple[int, float]]
    floor: float | None = None
    """How low general ability may fall by these questions."""
    steering: Mapping[str, Any] | None = None
    """Every place that could be the model, and the one that was taken, where there was a choice."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How a stage of training went. Points are (step, mean loss)."""

    name: str = ""
    """Of the stage; empty where there is one alone."""
    train: Sequence[tuple[int, float]] = ()
    validation: Sequence[tuple[int, float]] = ()
    others: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """What else validation measured, by name."""
    chosen: int | None = None
    """The step whose weights were kept."""
    turned: int | None = None
    """The step from which validation rose while training still fell; None where it never did."""
    ended: str = ""
    """Why training ended, in words."""
    said: Sequence[Said] = ()
    """Of the last round of answers, those with the highest and the lowest rewards."""
    forgetting: Forgetting | None = None
    """None where general ability was not measured."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file as it was read."""

    path: str
    format: str
    records: int
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows left out for one reason."""

    rule: str
    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What one stage of `data.clean` did."""

    stage: str
    rows: int
    """Rows that came in."""
    changed: int
    dropped: int
    suggested: int


@dataclass(frozen=True, slots=True)
class Made:
    """What one way of `data.augment` added to the training rows."""

    way: str
    rows: int
    parents: int
    """Rows they were made from."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the model was trained and tested on."""

    files: Sequence[DataFile] = ()
    rows: int = 0
    """Rows kept, those that were made among them."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """train, validation, test -> rows"""
    dropped: Sequence[Dropped] = ()
    """By every rule: bad records, cleaning, leaks, made rows that were not taken, rows too long for the model."""
    cleaned: Sequence[Cleaned] = ()
    made: Sequence[Made] = ()
    residual: Mapping[str, float] = field(default_factory=dict)
    """Similarity left between the parts after splitting, 0 to 1: max and quantiles."""
    findings: Sequence[Mapping[str, Any]] = ()
    """`Problem.json()` of each finding."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One resolved value of the recipe and the sentence that explains it."""

    key: str
    value: Any
    why: str = ""

    @property
    def usual(self) -> bool:
        """Whether nobody and nothing decided it: the default of the recipe."""
        return self.why.startswith("default")


@dataclass(frozen=True, slots=True)
class Sample:
    """One training row as the model saw it: pieces of text in order with their loss weight."""

    title: str
    pieces: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Something that was predicted before the run, and what was measured; bytes or seconds."""

    name: str
    unit: Literal["bytes", "seconds"]
    low: float
    high: float
    """A prediction is a range; of memory both ends are the same."""
    measured: float | None
    """None where this sitting did not do all of it."""
    basis: str = ""
    """What the prediction rests on."""


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """Everything a report shows."""

    title: str
    verdict: Mapping[str, Any]
    """`Verdict.json()`"""
    comparison: Mapping[str, Any]
    """`Comparison.json()`"""
    continual: Mapping[str, Any] | None = None
    """What `evaluate.continual.told` gives, where tasks were learnt one after the other."""
    charts: Sequence[Mapping[str, Any]] = ()
    """`Chart.json()` of each that shows where the scores come from."""
    suites: Sequence[Mapping[str, Any]] = ()
    """What `evaluate.suites.told` gives for each."""
    statement: str = ""
    """The goal in the user's words."""
    task: str = ""
    base: str = ""
    """The base model as the recipe names it."""
    license: str = ""
    """Of the base model, as its own card names it; empty where that is not known."""
    method: str = ""
    created: str = ""
    """When, as text."""
    curves: Sequence[Curve] = ()
    """One for each stage of training."""
    data: DataFacts = DataFacts()
    settings: Sequence[Setting] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    """stage -> seconds"""
    foreseen: Sequence[Foreseen] = ()
    samples: Sequence[Sample] = ()
    test_accesses: int | None = None
    """How often a model was measured on the locked test rows; once for each model is the least."""
    notes: Sequence[str] = ()
    """Downgrades, skips and alarms of the run."""
