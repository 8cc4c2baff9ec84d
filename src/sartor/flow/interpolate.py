"""How far to go from base to tuned model: both scores for steps between the two, measured on validation rows and a general probe.

The test rows of the run are not opened. The weights at any step can be written as a model.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sartor.console import printable, table
from sartor.data.dataset import Dataset
from sartor.data.rows import Example, Row
from sartor.errors import DataError, ModelError, Problem
from sartor.evaluate import metrics as measures
from sartor.evaluate.compare import is_share
from sartor.evaluate.front import Axes, Point, front, recommended
from sartor.evaluate.numbers import score_text
from sartor.events import Event, Progressed, Stage
from sartor.flow.eval import rows_of
from sartor.flow.merge import facts_of, json_writer, model_writers, named, refuse_full, text_writers
from sartor.flow.model import Model, load
from sartor.models.catalog import ModelFolder, resolve
from sartor.models.interpolate import Between, Scaled, scaled_settings, scales
from sartor.models.merging import Rule
from sartor.models.weights import ADAPTER, origin, require_alike, stored, whole
from sartor.protocols import Metric
from sartor.store import atomic

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.protocols import Outcome, Saver
    from sartor.store.run import Run

Emit = Callable[[Event], None]
GENERAL = "bits_per_byte"
"""Needs no generation, moves with every change of the weights, and is comparable between models."""
PROBE = "builtin:general-probe"
ROWS = 500
LENGTHS = (8, 512)
"""Bounds of the automatic length of an answer, in tokens."""


class Placed(Protocol):
    """A policy that can be put between two models."""

    def at(self, alpha: float) -> None:
        """0: the base, 1: the tuned model."""
        ...


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two things that are measured."""

    metric: Metric
    data: str
    rows: Sequence[Row]
    labels: Sequence[str]
    want: frozenset[str]
    max_new_tokens: int

    def score(self, model: Model, emit: Emit) -> tuple[float, bool]:
        """The score, and whether it is a share of rows."""
        from sartor.evaluate.predict import predict

        outcomes: list[Outcome] = list(
            predict(
                model.policy, model.renderer, self.rows, range(len(self.rows)), task=self.metric.name, labels=self.labels,
                max_new_tokens=self.max_new_tokens, batch=32, want=self.want, emit=emit,
            )
        )  # fmt: skip
        stats = self.metric.stats(outcomes)
        value = float(self.metric.combine(stats.sum(axis=0)))
        return value, is_share(self.metric.combine(stats), value)

    def json(self, *, share: bool) -> dict[str, Any]:
        """What is measured, and on what."""
        return {
            "metric": self.metric.name,
            "higher_is_better": self.metric.higher_is_better,
            "share": share,
            "data": self.data,
            "rows": len(self.rows),
        }


@dataclass(frozen=True, slots=True)
class Interpolated:
    """The points between base and tuned model, and what was written."""

    run: str
    points: tuple[Point, ...] = ()
    best: tuple[Point, ...] = ()
    """Those that no other one beats."""
    task: dict[str, Any] | None = None
    general: dict[str, Any] | None = None
    drop_at_most: float | None = None
    chosen: float | None = None
    """The alpha that is recommended."""
    page: Path | None = None
    written: Path | None = None
    alpha: float | None = None
    """What was written."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        points = [
            {"alpha": p.alpha, "task": _finite(p.task), "general": _finite(p.general), "front": p in self.best}
            for p in self.points
        ]
        return {
            "run": self.run, "task": self.task, "general": self.general, "points": points,
            "drop_at_most": self.drop_at_most, "recommended": self.chosen,
            "page": self.page and str(self.page), "written": self.written and str(self.written), "alpha": self.alpha,
        }  # fmt: skip

    def render(self, console: Console) -> None:
        """A table of the points, the recommendation, and what was written."""
        if self.task is not None and self.general is not None:
            task, general = self.task, self.general
            lines = [
                [
                    f"{point.alpha:g}",
                    score_text(point.task, task["share"]),
                    score_text(point.general, general["share"]),
                    "recommended" if point.alpha == self.chosen else "" if point in self.best else "beaten",
                ]
                for point in self.points
            ]
            table(console, ["alpha", task["metric"], general["metric"], ""], lines)
            said = f" {task['rows']:,} validation rows; {general['rows']:,} rows of {general['data']}; no test row was opened"
            console.print(printable(said), soft_wrap=True)
            rule = f"the best {task['metric']} with {general['metric']} worse than the base's by at most {self.drop_at_most:g}"
            console.print(printable(f" take alpha {self.chosen:g}: {rule}"), soft_wrap=True)
        for path in (self.page, self.written):
            if path is not None:
                console.print(printable(f" wrote {path}"), soft_wrap=True)


def interpolate(
    reference: str,
    *,
    steps: int = 11,
    task: str | None = None,
    general: str = GENERAL,
    general_data: str = PROBE,
    rows: int = ROWS,
    drop_at_most: float = 0.02,
    html: Path | None = None,
    write: float | None = None,
    write_best: bool = False,
    out: Path | None = None,
    emit: Emit,
) -> Interpolated:
    """Measure `steps` models between the base and the tuned model of a run.

    Args:
        reference: a finished run.
        task: metric on the validation rows; by default the first one of the run's gates, or of its metrics.
        general: metric on `general_data`.
        rows: validation rows used at most, a fixed sample.
        drop_at_most: how much worse than the base's the general score may be, in its own unit.
        html: file for a page with the picture.
        write: write the model at this alpha into `out` instead of measuring.
        write_best: measure, then write the recommended one into `out`.

    Raises:
        RunError: no such run, or not finished. DataError D116: no validation rows.
        ModelError: M190 an adapter that cannot be merged; M192 `out` without need, or missing.
    """
    from sartor.store.run import find as find_run

    run = find_run(reference, Path("runs"))
    folder = resolve(str(run.folder.resolve()), Path("/"))
    if (write is not None or write_best) != (out is not None):
        what = "--write says which model, --out says where; one needs the other"
        raise ModelError(Problem("M192", what, fix="--write 0.5 --out DIR"))
    if out is not None:
        refuse_full(out)
    if write is not None and out is not None:
        _write(folder, write, out, emit)
        return Interpolated(str(run.folder), written=out, alpha=write)
    sides = _task(run, folder, task, rows), _general(folder, general, general_data)
    with tempfile.TemporaryDirectory(prefix="sartor-interpolate-") as scratch:
        model, placed = _open(folder, Path(scratch))
        points, shares = [], [True, True]
        for place, alpha in enumerate(np.linspace(0, 1, steps).round(6).tolist()):
            emit(Stage("measure", f"alpha {alpha:g}"))
            placed.at(alpha)
            found = [side.score(model, emit) for side in sides]
            points.append(Point(alpha, found[0][0], found[1][0]))
            shares = [before and share for before, (_, share) in zip(shares, found, strict=True)]
            emit(Progressed("models", place + 1, steps))
    axes = Axes(*(1.0 if side.metric.higher_is_better else -1.0 for side in sides))
    chosen = recommended(points, axes, drop_at_most=drop_at_most)
    result = Interpolated(
        str(run.folder), tuple(points), tuple(front(points, axes)), sides[0].json(share=shares[0]),
        sides[1].json(share=shares[1]), drop_at_most, chosen.alpha,
    )  # fmt: skip
    if html is not None:
        from sartor.evaluate.front_page import front_page

        result = replace(result, page=html)
        atomic.write_text(html, front_page(result.json()))
    if out is not None:
        _write(folder, chosen.alpha, out, emit)
        result = replace(result, written=out, alpha=chosen.alpha)
    return result


def _task(run: Run, folder: ModelFolder, name: str | None, most: int) -> Side:
    """What the run is about, on its validation rows. Raises DataError D116 where it has none."""
    from sartor.recipe.load import load as load_recipe
    from sartor.tokens.store import TokenSet

    data = run.folder / "data"
    dataset, parts = (
        Dataset.open(data),
        {part: TokenSet.open(data / "tokens" / part) for part in ("train", "validation")},
    )
    held = np.unique(parts["validation"].rows)
    if not len(held):
        what = "this run has no validation rows, and its test rows stay closed"
        raise DataError(Problem("D116", what, file=str(run.folder), fix="data.split.validation: 0.1, before training"))
    recipe = load_recipe(run.folder / "resolved.yaml").recipe
    own = () if recipe.evaluate.metrics == "auto" else recipe.evaluate.metrics
    names = [name] if name else [*(gate.metric for gate in recipe.goal.success), *map(measures.name_of, own)]
    (metric,) = measures.load([next((one for one in own if one.name == names[0]), names[0])], Path.cwd())
    kind = str(_noted(folder)["task"])
    want = measures.wants([metric], kind)
    chosen = np.sort(np.random.default_rng([recipe.seed, 1]).permutation(held)[:most])
    labels: set[str] = set()
    if "label" in want:
        trained = (dataset[int(index)] for index in np.unique(parts["train"].rows))
        labels = {row.label for row in trained if isinstance(row, Example) and row.label is not None}
    length = recipe.evaluate.max_new_tokens
    assert length != "auto", "a finished run has decided it"
    return Side(metric, "validation", [dataset[int(index)] for index in chosen], sorted(labels), want, length)


def _general(folder: ModelFolder, name: str, data: str) -> Side:
    """General ability. Raises InputError for unknown metrics and faulty rows."""
    from sartor.flow.prepare import renderer_for

    root = Path.cwd()
    rows, (metric,) = list(rows_of(data, root)), measures.load([name], root)
    want = measures.wants([metric], "chat")
    renderer = renderer_for(folder)
    longest = max(len(renderer.completion(row.answer_text())) for row in rows) if "prediction" in want else 1
    return Side(metric, data, rows, (), want, min(max(longest * 3 // 2, LENGTHS[0]), LENGTHS[1]))


def _noted(folder: ModelFolder) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((folder.path / "sartor.json").read_text(encoding="utf-8"))
    return body


def _start(folder: ModelFolder) -> ModelFolder:
    """The base of a run's model."""
    return folder.base or resolve(str(_noted(folder)["base_path"]), Path("/"))


def _open(folder: ModelFolder, scratch: Path) -> tuple[Model, Placed]:
    """The tuned model with the renderer it was trained with, and what puts it between itself and its base."""
    if scales(folder):
        model = load(folder.path)
        return model, Scaled(model.policy)
    from sartor.flow.prepare import renderer_for

    base, tuned = _ends(folder, scratch)
    policy = load(_start(folder).path).policy
    return Model(folder, policy, renderer_for(folder)), Between(policy, base, tuned)


def _ends(folder: ModelFolder, scratch: Path) -> Any:
    base = origin(folder) if folder.base else stored(_start(folder), "the base")
    tuned = whole(folder, scratch)
    require_alike(base, tuned)
    return base, tuned


def _write(folder: ModelFolder, alpha: float, out: Path, emit: Emit) -> None:
    """The model at `alpha`: an adapter with another scale, or whole weights in the types of the tuned model."""
    start = _start(folder)
    lineage = {"alpha": alpha, "tuned": named(folder, None), "base": named(start, None)}
    facts = facts_of(folder) | {"interpolated": lineage}
    emit(Stage("write", f"alpha {alpha:g}"))
    with tempfile.TemporaryDirectory(prefix="sartor-interpolate-") as scratch:
        writers: dict[str, Saver]
        if scales(folder):
            facts["quantization"] = _noted(folder).get("quantization")
            content = (folder.path / ADAPTER).read_bytes()
            writers = {
                ADAPTER: lambda path: _bytes(content, path),
                "adapter_config.json": json_writer(scaled_settings(folder.path, alpha)),
            }
            needs = len(content)
        else:
            base, tuned = _ends(folder, Path(scratch))
            form = stored(folder.root, folder.reference)
            writers, forms = model_writers(form, [base, tuned], None, Rule("linear", (1 - alpha, alpha)), emit)
            needs = sum(each.bytes for each in forms.values())
        writers |= text_writers(folder) | {"sartor.json": json_writer(facts)}
        atomic.publish(out, writers, about=lineage, needs=needs)


def _bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
