"""Any models on the same rows: a score with its interval for each, and the paired difference of each to the first."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.console import printable, table
from sartor.data.dataset import INDEX, Dataset
from sartor.data.dataset import ROWS as ROWS_FILE
from sartor.data.findings import Findings
from sartor.data.pipeline import MANIFEST, TASKS
from sartor.data.reading import expand, read
from sartor.data.rows import Example, Row, Tagged, Text
from sartor.errors import DataError, Problem, raise_errors
from sartor.evaluate import metrics as measures
from sartor.evaluate.compare import SMALL, compare, details
from sartor.evaluate.numbers import MISSING, difference_text, range_text, score_text
from sartor.evaluate.shots import choose_shots, fit_shots
from sartor.events import Event, Noted, Stage
from sartor.flow.model import find, load
from sartor.flow.prepare import renderer_for
from sartor.models.catalog import ModelFolder
from sartor.protocols import Metric, Outcome
from sartor.tokens.render import Renderer

if TYPE_CHECKING:
    from rich.console import Console

ROWS = 1000
"""Rows measured unless the user wants more."""
BATCH = 32
LENGTHS = (16, 512)
"""Bounds of the automatic length of an answer, in tokens."""
BASELINE, OTHER = "baseline", "other"

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What `evaluate` found; `metrics` as `evaluate.compare` gives them, with models by name."""

    data: str
    task: str
    rows: int
    of: int
    """Rows of the file, those shown as examples not counted."""
    shots: int
    models: tuple[str, ...]
    """The first is the baseline."""
    metrics: tuple[Mapping[str, Any], ...]
    confidence: float
    max_new_tokens: int | None
    seconds: float
    details: tuple[Mapping[str, Any], ...] = ()
    """Tables that say where values come from, as `evaluate.compare` gives them."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        names = ("data", "task", "rows", "of", "shots", "confidence", "max_new_tokens", "seconds")
        return {
            **{name: getattr(self, name) for name in names},
            "models": list(self.models),
            "baseline": self.models[0],
            "metrics": [dict(metric) for metric in self.metrics],
            "details": [dict(table) for table in self.details],
        }

    def render(self, console: Console) -> None:
        """A table: for each metric and model the score, its interval, and the difference to the baseline."""
        sample = f" of {self.of:,} (a fixed sample; --rows)" if self.rows < self.of else ""
        shots = f", {self.shots} examples before each" if self.shots else ""
        console.print(printable(f" {self.data}: {self.rows:,} rows{sample}{shots}"))
        percent = f"{100 * self.confidence:g} %"
        header = ["metric", "score", percent, f"difference to the first ({percent})", ""]
        lines = [line for metric in self.metrics for line in self._lines(metric)]
        table(console, header if len(self.models) > 1 else header[:3], lines)
        if self.rows < SMALL:
            console.print(f" {self.rows} rows are too few for any interval to deserve trust")

    def _lines(self, metric: Mapping[str, Any]) -> Iterator[list[str]]:
        share, several = metric["share"], len(self.models) > 1
        if several:
            yield [metric["name"], "", "", "", ""]
        for model in self.models:
            score, difference = metric["scores"].get(model), metric["differences"].get(model)
            line = [f"  {model}" if several else metric["name"]]
            line += _pair(score, share) if score else [MISSING, ""]
            if several:
                line += _change(difference, share) if difference else ["", ""]
            yield line


def _pair(score: Mapping[str, Any], share: bool) -> list[str]:
    return [score_text(score["value"], share), range_text(score["low"], score["high"], share)]


def _change(difference: Mapping[str, Any], share: bool) -> list[str]:
    value, low, high = (difference_text(difference[name], share) for name in ("value", "low", "high"))
    return [f"{value} [{low}, {high}]", difference["word"]]


def evaluate(
    models: Sequence[str],
    data: str,
    *,
    metrics: Sequence[str] = (),
    shots: int = 0,
    rows: int = ROWS,
    max_new_tokens: int | None = None,
    batch: int = BATCH,
    confidence: float = 0.95,
    seed: int = 0,
    emit: Emit,
) -> Evaluated:
    """Measure every model on the rows of `data` (a file, folder, glob or builtin:NAME) and compare it with the first.

    With `shots`, as many rows are taken out of the data, shown to every model before each question, and not measured.
    Nothing is written. Raises InputError with every fault of the data, the models and the metrics.
    """
    began = time.monotonic()
    root = Path.cwd()
    chosen = measures.load(metrics, root)
    names = named(models)
    folders = {name: find(model, root) for name, model in zip(names, models, strict=True)}
    renderers = {name: renderer_for(folder) for name, folder in folders.items()}
    emit(Stage("data", data))
    with tempfile.TemporaryDirectory(prefix="sartor-eval-") as scratch:
        dataset = Dataset.write(rows_of(data, root), Path(scratch))
        task = _task(dataset[0])
        examples = choose_shots(dataset, range(len(dataset)), count=shots, seed=seed)
        taken = {shot.id for shot in examples}
        left = [index for index in range(len(dataset)) if dataset[index].id not in taken]
        if not left:
            raise DataError(Problem("D100", "every row was taken as an example", file=data, fix="fewer --shots"))
        order = np.sort(np.random.default_rng(seed).permutation(len(left))[:rows])
        indices = [left[int(place)] for place in order]
        references = [dataset[index].answer_text() for index in indices]
        if not chosen:
            chosen = measures.load(_default_metrics(task, references, renderers), root)
        if not _comparable(renderers) and any(metric.name == "perplexity" for metric in chosen):
            what = "perplexity counts tokens, and these models count different ones; compare bits_per_byte"
            emit(Noted("warning", "E114", what))
        want = measures.wants(chosen, task)
        labels = sorted(dataset.labels)
        if max_new_tokens is None and "prediction" in want:
            max_new_tokens = longest_answer(references, renderers)
        outcomes = {}
        for name, folder in folders.items():
            known = _known(folder, dataset, indices)
            if known:
                what = f"{known:,} of {len(indices):,} rows ask what {name} was trained on; its scores are too good"
                emit(Noted("warning", "E116", what))
            emit(Stage("measure", f"{name} on {len(indices):,} rows"))
            outcomes[name] = measured(
                folder, dataset, indices, name=name, labels=labels, shots=examples,
                max_new_tokens=max_new_tokens or 1, batch=batch, want=want, emit=emit,
            )  # fmt: skip
    return Evaluated(
        data=data,
        task=task,
        rows=len(indices),
        of=len(left),
        shots=len(examples),
        models=names,
        metrics=against_first(outcomes, chosen, confidence, seed),
        confidence=confidence,
        max_new_tokens=max_new_tokens if "prediction" in want else None,
        seconds=time.monotonic() - began,
        details=tuple(details(outcomes, chosen, confidence=confidence)),
    )


def rows_of(data: str, root: Path) -> Iterator[Row]:
    """All rows of the data. Raises DataError after the last one with every fault."""
    findings = Findings()
    strange: list[Problem] = []
    for path in expand(data, root):
        for row in read(path, findings=findings, label=data if path == root / data else str(path)):
            if isinstance(row, Example | Text | Tagged):
                yield row
            elif not strange:
                what = f"rows of kind {row.kind} have no single answer to compare with"
                strange.append(
                    Problem("D181", what, row.origin.file, row.origin.line, fix="give rows with one answer each")
                )
    raise_errors(DataError, [*findings.errors, *strange])


def _task(first: Row) -> str:
    if first.kind in TASKS:
        return TASKS[first.kind]
    return "classify" if isinstance(first, Example) and first.label is not None else "chat"


def _default_metrics(task: str, references: Sequence[str], renderers: Mapping[str, Renderer]) -> list[str]:
    """Those of the task; between different vocabularies bits per byte take the place of perplexity."""
    names = measures.defaults(task, references)
    if _comparable(renderers):
        return names
    return list(dict.fromkeys("bits_per_byte" if name == "perplexity" else name for name in names))


def _comparable(renderers: Mapping[str, Renderer]) -> bool:
    """Whether all models count the same tokens."""
    return len({renderer.vocabulary.fingerprint for renderer in renderers.values()}) == 1


def longest_answer(references: Sequence[str], renderers: Mapping[str, Renderer]) -> int:
    """One and a half times the longest reference in tokens of any model."""
    longest = max(len(renderer.completion(text)) for renderer in renderers.values() for text in references)
    return min(max(longest * 3 // 2, LENGTHS[0]), LENGTHS[1])


def named(models: Sequence[str]) -> tuple[str, ...]:
    """The references as names, a number after those that repeat."""
    return tuple(
        model if model not in models[:place] else f"{model} ({models[:place].count(model) + 1})"
        for place, model in enumerate(models)
    )


def _known(folder: ModelFolder, dataset: Dataset, indices: Sequence[int]) -> int:
    """How many of the rows ask something that the training rows of the model's own run ask as well."""
    data = folder.path.parent / "data"
    if not all((data / name).is_file() for name in (MANIFEST, ROWS_FILE, INDEX)):
        return 0
    parts = [row["part"] for row in json.loads((data / MANIFEST).read_text(encoding="utf-8"))["rows"]]
    seen = Dataset.open(data).index
    if len(parts) != len(seen.prompt):
        return 0
    trained = np.array([part == "train" for part in parts])
    rows = np.asarray(indices, dtype=np.int64)
    asked = np.isin(dataset.index.prompt[rows], seen.prompt[trained]) & (dataset.index.prompt[rows] != 0)
    return int((asked | np.isin(dataset.index.text[rows], seen.text[trained])).sum())


def measured(
    folder: ModelFolder,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    name: str,
    labels: Sequence[str],
    shots: Sequence[Example],
    max_new_tokens: int,
    batch: int,
    want: frozenset[str],
    emit: Emit,
) -> list[Outcome]:
    """One model on all rows; it is gone from memory afterwards."""
    from sartor.evaluate.predict import predict

    model = load(folder.path)
    if model.policy.head is not None:
        from sartor.evaluate.heads import predict_heads

        return list(predict_heads(model.judge, dataset, indices, task=name, emit=emit))
    rows = [row for index in indices if isinstance(row := dataset[index], Example)] if shots else []
    kept = fit_shots(shots, rows, model.renderer, window=model.policy.window, room=max_new_tokens)
    if len(kept) < len(shots):
        emit(Noted("warning", "E115", f"{name} was shown {len(kept)} of {len(shots)} examples: its window is full"))
    outcomes = list(
        predict(
            model.policy, model.renderer, dataset, indices, task=name, labels=labels, shots=kept,
            max_new_tokens=max_new_tokens, batch=batch, want=want, emit=emit,
        )
    )  # fmt: skip
    del model
    gc.collect()
    return outcomes


def against_first(
    outcomes: Mapping[str, Sequence[Outcome]], metrics: Sequence[Metric], confidence: float, seed: int
) -> tuple[Mapping[str, Any], ...]:
    """For each metric the scores of all models and the difference of each to the first."""
    (baseline, first), *others = outcomes.items()
    if not others:
        (found,) = [compare({BASELINE: first}, metrics, confidence=confidence, seed=seed).json()["metrics"]]
        return tuple(
            {**metric, "scores": _renamed(metric["scores"], baseline, ""), "differences": {}} for metric in found
        )
    merged: dict[str, dict[str, Any]] = {}
    for name, other in others:
        comparison = compare({BASELINE: first, OTHER: other}, metrics, confidence=confidence, seed=seed)
        for metric in comparison.json()["metrics"]:
            entry = merged.setdefault(metric["name"], {**metric, "scores": {}, "differences": {}})
            entry["share"] = entry["share"] and metric["share"]
            entry["scores"] |= _renamed(metric["scores"], baseline, name)
            if BASELINE in metric["differences"]:
                entry["differences"][name] = metric["differences"][BASELINE]
    return tuple(merged.values())


def _renamed(scores: Mapping[str, Any], baseline: str, other: str) -> dict[str, Any]:
    names = {BASELINE: baseline, OTHER: other}
    return {names[key]: score for key, score in scores.items()}
