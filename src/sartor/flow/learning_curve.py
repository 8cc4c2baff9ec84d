"""Trains on growing parts of the training rows and tells what more data would bring."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.similarity import mixed
from sartor.errors import DataError, Problem, RecipeError
from sartor.events import Event, Stage
from sartor.flow.heads import require_words
from sartor.flow.job import begun, claim
from sartor.flow.measure import Bench, bench
from sartor.flow.prepare import Prepared, prepare
from sartor.flow.signals import Stop
from sartor.recipe.load import load

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.advise.settings import StageSettings
    from sartor.data.pipeline import Prepared as Rows
    from sartor.flow.prepare import Emit
    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Metric, Outcome
    from sartor.recipe.load import Loaded
    from sartor.tokens.course import Course
    from sartor.tokens.render import Renderer
    from sartor.tokens.store import TokenRows

SUMMARY = "curve.json"
RESAMPLES = 400
LEAST = 16
"""Rows of the smallest part."""


@dataclass(frozen=True, slots=True)
class Point:
    """What models trained on a part of the rows reach on validation rows."""

    rows: int
    tokens: int
    values: Sequence[float]
    """One for each seed."""
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A learning curve and where it leads."""

    folder: Path
    metric: str
    share: bool
    higher_is_better: bool
    points: Sequence[Point]
    doubled: int
    """Twice the rows there are."""
    gain: float
    """Change of the metric from all rows to twice as many."""
    low: float
    high: float
    confidence: float

    @property
    def sentence(self) -> str:
        """twice the data (1,600 rows): accuracy +1.3 [+0.5, +2.1]"""
        from sartor.evaluate.numbers import difference_text

        gain, low, high = (difference_text(each, self.share) for each in (self.gain, self.low, self.high))
        better = self.low > 0 if self.higher_is_better else self.high < 0
        advice = (
            "more data would help" if better else "not decided: what more data would bring cannot be told from noise"
        )
        return f"twice the data ({self.doubled:,} rows): {self.metric} {gain} [{low}, {high}]: {advice}"

    def json(self) -> dict[str, Any]:
        """Everything as one object."""
        return {**asdict(self), "folder": str(self.folder), "points": [asdict(point) for point in self.points]}

    def render(self, console: Console) -> None:
        """A table of the points, and the sentence."""
        from rich.table import Table

        from sartor.evaluate.numbers import range_text, score_text

        table = Table(box=None, pad_edge=True)
        for name in ("training rows", "tokens", self.metric, f"{self.confidence:.0%} interval"):
            table.add_column(name, justify="right")
        for point in self.points:
            value = score_text(point.value, self.share)
            table.add_row(f"{point.rows:,}", f"{point.tokens:,}", value, range_text(point.low, point.high, self.share))
        console.print(table)
        console.print(f" {self.sentence}", soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Part:
    """The material of a stage that trains on some of the rows."""

    loaded: Loaded
    settings: StageSettings
    base: ModelFolder
    renderer: Renderer
    rows: Rows
    tokens: Mapping[str, TokenRows]
    course: Course
    max_tokens: int
    inputs: None = None
    """Only answers in words are measured."""


def learning_curve(
    path: Path,
    out: Path,
    overrides: Sequence[str],
    emit: Emit,
    *,
    sizes: Sequence[float],
    seeds: int,
    metric: str | None,
) -> Curve:
    """Train on nested parts of the training rows, with as many epochs each, measure on the validation rows, and extrapolate.

    `sizes` are shares of the training rows. What is trained and measured is kept in `out`; the same command goes on. The
    test rows stay locked. Raises InputError for faulty input, Interrupted when stopped.
    """
    from sartor.evaluate.extrapolate import LEAST as SIZES

    loaded = load(path, overrides)
    shares = sorted({*sizes, 1.0})
    if len(shares) < SIZES or not all(0 < share <= 1 for share in shares):
        raise RecipeError(
            Problem("R106", f"{SIZES} different sizes from 0 to 1 are needed", fix="--sizes 0.125,0.25,0.5,1")
        )
    with begun(out):
        prepared = prepare(loaded, out / "data", emit)
        require_words(prepared, "sartor data curve")
    tools = _on_validation(prepared, bench(prepared, emit))
    chosen = _metric(tools, metric)
    tokens = prepared.tokens["train"]
    if shares[0] * len(tokens) < LEAST:
        what = f"{shares[0]:g} of {len(tokens):,} training rows are fewer than {LEAST}"
        raise DataError(
            Problem("D115", what, file=loaded.recipe.data.sources[0].path, fix="larger --sizes, or more rows")
        )
    claim(out, {"recipe": loaded.recipe.model_dump(mode="json"), "data": prepared.rows.dataset.fingerprint})
    order = _nested(prepared)
    outcomes: dict[float, list[list[Outcome]]] = {}
    with Stop() as stop:
        for share in shares:
            rows = order[: max(LEAST, round(share * len(order)))]
            outcomes[share] = [
                _measured(prepared, tools, rows, seed, out / f"rows-{len(rows)}-seed-{seed}", emit, stop)
                for seed in range(seeds)
            ]
    counts = {share: order[: max(LEAST, round(share * len(order)))] for share in shares}
    return _told(prepared, tools, chosen, out, counts, outcomes)


def _on_validation(prepared: Prepared, tools: Bench) -> Bench:
    rows = np.unique(prepared.tokens["validation"].rows)
    if not len(rows):
        raise DataError(Problem("D116", "there are no validation rows to measure on", fix="data.split.validation: 0.1"))
    most = np.random.default_rng([prepared.loaded.recipe.seed, 4]).permutation(rows)[: len(tools.indices)]
    return replace(tools, indices=[int(row) for row in np.sort(most)], shots=())


def _metric(tools: Bench, wanted: str | None) -> Metric:
    names = [metric.name for metric in tools.metrics]
    if wanted is None:
        return tools.metrics[0]
    if wanted not in names:
        raise RecipeError(Problem("R105", f"{wanted} is not measured by this recipe", fix=f"one of {', '.join(names)}"))
    return tools.metrics[names.index(wanted)]


def _nested(prepared: Prepared) -> NDArray[np.int64]:
    """[n] the training rows by cluster in an order of their content, so that each part holds the ones before."""
    tokens, rows = prepared.tokens["train"], prepared.rows
    cluster = rows.splits.clusters.of[tokens.rows]
    key = mixed(rows.dataset.index.content[tokens.rows, 0], prepared.loaded.recipe.seed)
    first = np.full(int(cluster.max()) + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, cluster, key)
    return np.lexsort((key, first[cluster]))


def _measured(
    prepared: Prepared, tools: Bench, chosen: NDArray[np.int64], seed: int, folder: Path, emit: Emit, stop: Stop
) -> list[Outcome]:
    """The outcomes on validation rows of a model trained on the chosen rows; read where they are there already."""
    from sartor.evaluate.outcomes import collect, read_outcomes
    from sartor.evaluate.predict import predict
    from sartor.flow.train import attach, open_base, train
    from sartor.store import atomic
    from sartor.tokens.store import TokenView

    file = folder / "outcomes.jsonl"
    if file.exists():
        return read_outcomes(file)
    emit(Stage("train", f"{len(chosen):,} rows, seed {seed + 1}"))
    settings = prepared.settings
    steps = max(1, round(settings.steps * len(chosen) / len(prepared.tokens["train"])))
    every = max(1, round(settings.validate_every * steps / settings.steps))
    recipe = prepared.loaded.recipe.model_copy(update={"seed": prepared.loaded.recipe.seed + seed})
    part = _Part(
        loaded=replace(prepared.loaded, recipe=recipe),
        settings=replace(settings, steps=steps, validate_every=every, save_every=every),
        base=prepared.base,
        renderer=prepared.renderer,
        rows=prepared.rows,
        tokens={**prepared.tokens, "train": TokenView(prepared.tokens["train"], chosen)},
        max_tokens=prepared.max_tokens,
        course=prepared.course.take(chosen),
    )
    policy = open_base(part, _unseen)
    attach(part, policy)
    stop.training = True
    owner = f"{len(chosen)} rows, seed {seed}"
    train(part, policy, folder, emit, tools=tools, owner=owner, stop_asked=stop.asked)
    stop.training = False
    emit(Stage("evaluate", f"{len(tools.indices):,} validation rows"))
    measure = partial(
        predict,
        policy,
        prepared.renderer,
        prepared.rows.dataset,
        task="validation",
        labels=tools.labels,
        max_new_tokens=tools.max_new_tokens,
        batch=tools.batch,
        want=tools.want,
        emit=emit,
    )
    outcomes = collect(file, tools.indices, measure)
    atomic.remove(folder / "checkpoints")
    return outcomes


def _unseen(event: Event) -> None:
    """What opening the model tells is the same for every part."""


def _told(
    prepared: Prepared,
    tools: Bench,
    metric: Metric,
    out: Path,
    parts: dict[float, NDArray[np.int64]],
    outcomes: dict[float, list[list[Outcome]]],
) -> Curve:
    from sartor.evaluate import intervals
    from sartor.evaluate.extrapolate import fit

    shares = sorted(parts)
    confidence = prepared.loaded.recipe.evaluate.confidence
    stats = np.array([[metric.stats(each) for each in outcomes[share]] for share in shares])
    sizes = np.array([len(parts[share]) for share in shares], np.float64)
    values = metric.combine(stats.sum(axis=2))
    best = 1.0 if metric.higher_is_better else 0.0
    sign = -1.0 if metric.higher_is_better else 1.0
    shown = bool(np.isin(metric.combine(stats), (0.0, 1.0)).all())

    def errors(found: NDArray[np.float64]) -> NDArray[np.float64]:
        """[sizes] how far from the best value."""
        result: NDArray[np.float64] = np.maximum(sign * (found.mean(axis=1) - best), 0.0)
        return result

    def gain(found: NDArray[np.float64]) -> float:
        law = fit(sizes, errors(found))
        return sign * (law.at(2 * sizes[-1]) - law.at(sizes[-1]))

    random = np.random.default_rng([prepared.loaded.recipe.seed, 6])
    drawn, means = [], []
    for chunk in intervals.weights(stats.shape[2], RESAMPLES, prepared.loaded.recipe.seed):
        for line in chunk:
            seeds = random.integers(0, stats.shape[1], stats.shape[1])
            found = metric.combine(np.einsum("r,srnk->snk", line, stats.transpose(0, 2, 1, 3)[:, :, seeds]))
            drawn.append(gain(found))
            means.append(found.mean(axis=1))
    tail = (1 - confidence) / 2
    bounds = np.quantile(np.array(means), [tail, 1 - tail], axis=0)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    lengths = prepared.tokens["train"].lengths
    points = [
        Point(
            rows=len(parts[share]),
            tokens=int(lengths[parts[share]].sum()),
            values=[float(value) for value in values[number]],
            value=float(values[number].mean()),
            low=float(bounds[0, number]),
            high=float(bounds[1, number]),
        )
        for number, share in enumerate(shares)
    ]
    curve = Curve(
        folder=out,
        metric=metric.name,
        share=shown,
        higher_is_better=metric.higher_is_better,
        points=points,
        doubled=int(2 * sizes[-1]),
        gain=gain(values),
        low=float(low),
        high=float(high),
        confidence=confidence,
    )
    (out / SUMMARY).write_text(json.dumps(curve.json(), indent=1), encoding="utf-8")
    return curve
