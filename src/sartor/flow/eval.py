"""Any models on the same rows: a score with its interval for each, and the paired difference of each to the first."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from sartor import registry
from sartor.console import printable, table
from sartor.data.dataset import INDEX, Dataset
from sartor.data.dataset import ROWS as ROWS_FILE
from sartor.data.findings import Findings
from sartor.data.pipeline import MANIFEST, TASKS
from sartor.data.reading import expand, read
from sartor.data.rows import Example, Row, Tagged, Text
from sartor.errors import DataError, Problem, RecipeError, raise_errors
from sartor.evaluate import metrics as measures
from sartor.evaluate.answer_cache import AnswerCache, model_key
from sartor.evaluate.compare import SMALL, Test, compare
from sartor.evaluate.corrections import Correction
from sartor.evaluate.numbers import MISSING, difference_text, range_text, score_text
from sartor.evaluate.shots import choose_shots, fit_shots
from sartor.evaluate.slices import cut
from sartor.evaluate.slices import require as require_slices
from sartor.evaluate.suites import Ground, Subject, Suite, body_of, build
from sartor.events import Event, Noted, Stage
from sartor.flow.model import Model, find, load
from sartor.flow.prepare import renderer_for
from sartor.flow.verdict_table import remarks, word_text
from sartor.flow.writers import opener
from sartor.models.catalog import ModelFolder
from sartor.protocols import Metric, Outcome
from sartor.recipe.schema import Component, Slice
from sartor.store import atomic
from sartor.store.fingerprint import of_file
from sartor.tokens.render import Renderer

if TYPE_CHECKING:
    from rich.console import Console

ROWS = 1000
"""Rows measured unless the user wants more."""
BATCH = 32
FACTS = "sartor.json"
"""How a model was trained, and how it is held."""
ANSWER = 64
"""Tokens of an answer to a suite, where the rows need none."""
MEASURED = ("safety", "benchmark")
"""Kinds of suites that any model can be measured on."""
LENGTHS = (16, 512)
"""Bounds of the automatic length of an answer, in tokens."""

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
    comparison: Mapping[str, Any] = field(default_factory=dict)
    """`Comparison.json()`, slices among it."""
    suites: tuple[Mapping[str, Any], ...] = ()
    """What `evaluate.suites.told` gives for each."""
    known: int = 0
    """Answers that the cache knew."""
    report: str | None = None
    """The page that was written."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        names = ("data", "task", "rows", "of", "shots", "confidence", "max_new_tokens", "seconds")
        return {
            **{name: getattr(self, name) for name in names},
            "models": list(self.models),
            "baseline": self.models[0],
            "metrics": [dict(metric) for metric in self.metrics],
            "details": [dict(table) for table in self.details],
            "correction": self.comparison.get("correction"),
            "comparisons": self.comparison.get("comparisons"),
            "slices": self.comparison.get("slices"),
            "suites": [dict(suite) for suite in self.suites],
            "answers_known": self.known,
            "report": self.report,
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
        for line in remarks(self.comparison) if self.comparison else ():
            console.print(printable(line), style="dim", soft_wrap=True)
        for suite in self.suites:
            console.print(printable(f"\n {suite['title']}: {suite['comparison']['rows']:,} in all"))
            lines = [line for metric in suite["comparison"]["metrics"] for line in self._lines(metric)]
            table(console, header if len(self.models) > 1 else header[:3], lines)
            for line in remarks(suite["comparison"]):
                console.print(printable(line), style="dim", soft_wrap=True)
        if self.known:
            console.print(f" {self.known:,} answers were known from before   --no-cache", style="dim")
        if self.report:
            console.print(printable(f" report: {self.report}"), soft_wrap=True)

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
    return [f"{value} [{low}, {high}]", word_text(difference)]


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
    slices: Sequence[str] = (),
    suites: Sequence[str] = (),
    correction: Correction = "holm",
    test: Test = "bootstrap",
    cache: Path | None = None,
    report: Path | None = None,
    seed: int = 0,
    emit: Emit,
) -> Evaluated:
    """Measure every model on the rows of `data` (a file, folder, glob or builtin:NAME) and compare it with the first.

    With `shots`, as many rows are taken out of the data, shown to every model before each question, and not measured. `slices`
    are columns, length, topic or label; `suites` names of safety measures and benchmarks that need no options. Answers
    are kept in the folder `cache`, where one is given, and `report` is written as a page; else nothing is.
    Raises InputError with every fault of the data, the models, the metrics, the suites and the slices.
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
        cuts = [Slice(field=name) for name in slices]
        require_slices(cuts, [dataset[index].columns for index in indices] if cuts else [])
        want = measures.wants(chosen, task)
        labels = sorted(dataset.labels)
        if max_new_tokens is None and "prediction" in want:
            max_new_tokens = longest_answer(references, renderers)
        ground = Ground(
            root, rows=dataset, test=indices, max_new_tokens=max_new_tokens or ANSWER, seed=seed,
            confidence=confidence, models=opener(root),
        )  # fmt: skip
        beside = Beside({name: _suite(name, ground) for name in suites}, batch, emit)
        outcomes = {}
        answered = 0
        for name, folder in folders.items():
            known = _known(folder, dataset, indices)
            if known:
                what = f"{known:,} of {len(indices):,} rows ask what {name} was trained on; its scores are too good"
                emit(Noted("warning", "E116", what))
            emit(Stage("measure", f"{name} on {len(indices):,} rows"))
            outcomes[name], hits = _measured(
                folder, dataset, indices, name=name, labels=labels, shots=examples,
                max_new_tokens=max_new_tokens or 1, batch=batch, want=want, emit=emit, cache=cache, beside=beside,
            )  # fmt: skip
            answered += hits
    how: dict[str, Any] = {
        "confidence": confidence, "seed": seed, "correction": correction, "test": test, "baseline": names[0],
    }  # fmt: skip
    comparison = compare(outcomes, chosen, **how)
    if cuts:
        comparison = comparison.with_slices(cut(outcomes, chosen[:1], cuts, **how).json())
    body = comparison.json()
    found = Evaluated(
        data=data,
        task=task,
        rows=len(indices),
        of=len(left),
        shots=len(examples),
        models=names,
        metrics=tuple(body["metrics"]),
        confidence=confidence,
        max_new_tokens=max_new_tokens if "prediction" in want else None,
        seconds=time.monotonic() - began,
        details=comparison.details,
        comparison=body,
        suites=tuple(beside.told(how)),
        known=answered,
        report=None if report is None else str(report),
    )
    if report is not None:
        _write_report(report, found)
    return found


def _suite(name: str, ground: Ground) -> tuple[str, Suite]:
    """The suite of this name with its own defaults. Raises RecipeError R105 or R153."""
    for kind in MEASURED:
        if name in registry.names(kind):
            try:
                options = registry.component(kind, name).Options()
            except ValidationError as fault:
                missing = ", ".join(str(each["loc"][0]) for each in fault.errors())
                what = f"{name} needs options ({missing}), which only a recipe can give"
                raise RecipeError(
                    Problem("R153", what, fix="sartor run with evaluate.safety or evaluate.benchmarks")
                ) from fault
            title = f"{kind}-{name}"
            return title, build(title, Component(name=name, options=options), ground)
    known = [each for kind in MEASURED for each in registry.names(kind)]
    raise RecipeError(Problem("R105", f'unknown suite "{name}"', fix=f"one of {', '.join(known)}"))


@dataclass(frozen=True, slots=True)
class Beside:
    """Suites that every model is measured on beside the rows, and what they found."""

    suites: Mapping[str, tuple[str, Suite]]
    batch: int
    emit: Emit
    outcomes: dict[str, dict[str, list[Outcome]]] = field(default_factory=dict)
    """suite -> model -> one for each unit"""

    def measure(self, name: str, model: Model, outcomes: Sequence[Outcome], cache: AnswerCache | None) -> None:
        """Every suite of one model."""
        for title, suite in self.suites.values():
            if suite.speaks and model.policy.head is not None:
                what = f"{title} needs a model that writes text, and {name} has a head: left out"
                self.emit(Noted("warning", "E117", what))
                continue
            self.emit(Stage("measure", f"{name} on {title}, {len(suite):,} units"))
            subject = Subject(name, model.policy, model.renderer, outcomes, self.batch, self.emit, cache=cache)
            self.outcomes.setdefault(title, {})[name] = list(suite.measure(subject, range(len(suite))))

    def told(self, how: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The comparison of each with what a report shows, in the order they were asked for."""
        for title, suite in self.suites.values():
            found = self.outcomes.get(title, {})
            if found:
                own = {**how, "baseline": how["baseline"] if how["baseline"] in found else next(iter(found))}
                yield body_of(title, suite, found, compare(found, suite.metrics, **own))


def _write_report(path: Path, found: Evaluated) -> None:
    """The comparison as the page of a run shows it."""
    from sartor.evaluate.facts import ReportFacts
    from sartor.evaluate.report import report

    several = f"{len(found.models)} models" if len(found.models) > 1 else found.models[0]
    verdict = {"pass": True, "gates": [], "sentence": f"{several} on {found.rows:,} rows of {found.data}"}
    facts = ReportFacts(
        title=Path(found.data).stem, verdict=verdict, comparison=found.comparison, suites=found.suites,
        created=time.strftime("%Y-%m-%d %H:%M"),
    )  # fmt: skip
    atomic.make_folder(path.absolute().parent)
    atomic.write_text(path, report(facts))


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
    found, _ = _measured(
        folder, dataset, indices, name=name, labels=labels, shots=shots, max_new_tokens=max_new_tokens, batch=batch,
        want=want, emit=emit, cache=None, beside=None,
    )  # fmt: skip
    return found


def _measured(
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
    cache: Path | None,
    beside: Beside | None,
) -> tuple[list[Outcome], int]:
    """(the outcome of each row, answers that were known), and the suites `beside` are measured."""
    from sartor.evaluate.predict import predict

    model = load(folder.path)
    if model.policy.head is not None:
        from sartor.evaluate.heads import predict_heads

        outcomes = list(predict_heads(model.judge, dataset, indices, task=name, emit=emit))
        if beside is not None:
            beside.measure(name, model, outcomes, None)
        return outcomes, 0
    answers = None if cache is None else _cache(cache, folder, model, name, emit)
    rows = [row for index in indices if isinstance(row := dataset[index], Example)] if shots else []
    kept = fit_shots(shots, rows, model.renderer, window=model.policy.window, room=max_new_tokens)
    if len(kept) < len(shots):
        emit(Noted("warning", "E115", f"{name} was shown {len(kept)} of {len(shots)} examples: its window is full"))
    outcomes = list(
        predict(
            model.policy, model.renderer, dataset, indices, task=name, labels=labels, shots=kept,
            max_new_tokens=max_new_tokens, batch=batch, want=want, emit=emit, cache=answers,
        )
    )  # fmt: skip
    if beside is not None:
        beside.measure(name, model, outcomes, answers)
    del model
    gc.collect()
    return outcomes, 0 if answers is None else answers.found


def _cache(home: Path, folder: ModelFolder, model: Model, name: str, emit: Emit) -> AnswerCache:
    """The answers that this model gave before."""
    policy, vocabulary = model.policy, model.renderer.vocabulary
    parts = sorted({folder.path, folder.root.path})
    facts = [of_file(part / FACTS) for part in parts if (part / FACTS).exists()]
    key = model_key(
        parts, facts=facts, device=policy.device.type, vocabulary=vocabulary.fingerprint,
        stop=sorted(model.renderer.stop_ids),
    )  # fmt: skip
    found = AnswerCache(home, key)
    if found.damaged:
        what = f"{found.damaged:,} answers of {name} in the cache were damaged, and are made again"
        emit(Noted("warning", "E122", what))
    return found


def against_first(
    outcomes: Mapping[str, Sequence[Outcome]], metrics: Sequence[Metric], confidence: float, seed: int
) -> tuple[Mapping[str, Any], ...]:
    """For each metric the scores of all models and the difference of each to the first."""
    found = compare(outcomes, metrics, confidence=confidence, seed=seed, baseline=next(iter(outcomes)))
    return tuple(found.json()["metrics"])
