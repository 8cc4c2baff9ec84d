"""Answers of any models, or of files with predictions, put before a judge: scores by rubrics, pairs in both orders, ratings."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from sartor.console import printable, table
from sartor.data.dataset import Dataset
from sartor.data.findings import Findings
from sartor.data.reading import expand, read
from sartor.data.rows import Example, Prompt, Row
from sartor.errors import DataError, InputError, ModelError, Problem, raise_errors
from sartor.evaluate.compare import SMALL, compare, details
from sartor.evaluate.given import Given
from sartor.evaluate.judges import _gold, pairwise, rubric
from sartor.evaluate.judges._answers import drawn
from sartor.evaluate.judges._asking import Judging, Price, favours
from sartor.evaluate.judges._rubrics import OWN
from sartor.evaluate.judges._tables import trust
from sartor.evaluate.numbers import MISSING, difference_text, range_text, score_text
from sartor.evaluate.ranking import Rating, ratings
from sartor.evaluate.suites import Ground
from sartor.events import Event, Noted, Stage
from sartor.flow.eval import against_first, longest_answer, measured, named
from sartor.flow.model import find
from sartor.flow.prepare import renderer_for
from sartor.flow.writers import opener

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.models.catalog import ModelFolder
    from sartor.protocols import Outcome

BATCH = 32
MOST_NEW_TOKENS = 256
"""Longest answer where the rows have no answers of their own."""
RATED = 3
"""Models from which ratings say more than the win rates do."""
SHOWN = ("the judge was asked", "order and length", "agreement with people", "judge and people together")
"""Ends of the titles of tables that are printed; all are in the JSON document."""

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Judged:
    """What `judge` found."""

    data: str
    judge: str
    rows: int
    of: int
    """Rows of the file that all models answer."""
    models: tuple[str, ...]
    """The first is the baseline."""
    metrics: tuple[Mapping[str, Any], ...]
    """Scores by rubrics, as `evaluate.compare` gives them."""
    pairs: tuple[Mapping[str, Any], ...]
    """For each two models the win rates of the second: model, against, and by metric value, low, high."""
    ratings: tuple[Rating, ...]
    """Where there are at least `RATED` models, the best first."""
    notes: tuple[str, ...]
    """How far the judge can be trusted."""
    confidence: float
    seconds: float
    details: tuple[Mapping[str, Any], ...] = ()
    """Tables that say where values come from, as `evaluate.compare` gives them."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        names = ("data", "judge", "rows", "of", "confidence", "seconds")
        return {
            **{name: getattr(self, name) for name in names},
            "models": list(self.models),
            "baseline": self.models[0],
            "metrics": [dict(metric) for metric in self.metrics],
            "pairs": [dict(pair) for pair in self.pairs],
            "ratings": [rating.json() for rating in self.ratings],
            "notes": list(self.notes),
            "details": [dict(one) for one in self.details],
        }

    def render(self, console: Console) -> None:
        """Tables of scores, pairs and ratings; what was asked, the judge's biases, and how far people agree with it."""
        sample = f" of {self.of:,} (--rows)" if self.rows < self.of else ""
        console.print(printable(f" {self.data}: {self.rows:,} rows{sample}, judged by {self.judge}"))
        percent = f"{100 * self.confidence:g} %"
        if self.metrics:
            header = ["", "score", percent, f"difference to the first ({percent})", ""]
            lines = [line for metric in self.metrics for line in self._scores(metric)]
            table(console, header if len(self.models) > 1 else header[:3], lines)
        if self.pairs:
            lines = [line for pair in self.pairs for line in _wins(pair)]
            table(console, ["win rate", "value", percent], lines)
        if self.ratings:
            lines = [
                [each.model, f"{each.rating:.0f}", f"{each.low:.0f} to {each.high:.0f}", f"{each.wins:g}", f"{each.comparisons:,}"]
                for each in self.ratings
            ]  # fmt: skip
            table(console, ["rating (Bradley and Terry, Elo's scale)", "", percent, "wins", "pairs"], lines)
        for one in self.details:
            if one["title"].endswith(SHOWN):
                self._detail(console, one)
        for note in self.notes:
            console.print(printable(f" {note}"), soft_wrap=True)
        if self.rows < SMALL:
            console.print(f" {self.rows} rows are too few for any interval to deserve trust")

    def _detail(self, console: Console, one: Mapping[str, Any]) -> None:
        several = len(one["models"]) > 1
        lines = [
            [*([model if not at else ""] if several else []), *map(_cell, row)]
            for model, found in one["models"].items()
            for at, row in enumerate(found["rows"])
        ]
        console.print("")
        table(console, [*([""] if several else []), *one["columns"]], lines, title=one["title"])

    def _scores(self, metric: Mapping[str, Any]) -> Iterator[list[str]]:
        yield [metric["name"], "", "", "", ""][: 5 if len(self.models) > 1 else 3]
        for model in self.models:
            score, difference = metric["scores"].get(model), metric["differences"].get(model)
            line = [f"  {model}", *(_score(score, metric["share"]) if score else [MISSING, ""])]
            if len(self.models) > 1:
                line += _change(difference, metric["share"]) if difference else ["", ""]
            yield line


def _score(score: Mapping[str, Any], share: bool) -> list[str]:
    return [score_text(score["value"], share), range_text(score["low"], score["high"], share)]


def _change(difference: Mapping[str, Any], share: bool) -> list[str]:
    value, low, high = (difference_text(difference[name], share) for name in ("value", "low", "high"))
    return [f"{value} [{low}, {high}]", difference["word"]]


def _wins(pair: Mapping[str, Any]) -> Iterator[list[str]]:
    yield [f"{pair['model']} against {pair['against']}", "", ""]
    for name, score in pair["scores"].items():
        called = name.removeprefix("win_rate").removeprefix("_").replace("_", " ") or "as judged"
        yield [f"  {called}", *(_score(score, share=True) if score else [MISSING, ""])]


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else score_text(value, share=False)


def judge(
    models: Sequence[str],
    data: str,
    options: Judging,
    *,
    rubrics: Sequence[str] = (),
    pairs: bool = False,
    keep: Path | None = None,
    max_new_tokens: int | None = None,
    batch: int = BATCH,
    confidence: float = 0.95,
    seed: int = 0,
    emit: Emit,
) -> Judged:
    """Have every model answer the rows of `data`, and a judge score the answers, or compare them two at a time.

    A model may be a file with predictions. Without rubrics and pairs, Sartor's own rubrics are used. What the judge says is kept
    in `keep`, so that the same call asks nothing twice. Raises InputError with every fault of the data, models and rubrics.
    """
    began = time.monotonic()
    root = Path.cwd()
    rubrics = rubrics or (() if pairs else OWN)
    _refuse(models, options, rubrics, pairs)
    names = named(models)
    emit(Stage("data", data))
    people: _gold.Scores | _gold.Preferences | None = None
    asked, compared = _options(options, rubrics)
    if asked is not None:
        # What is wrong with rubrics, people's scores and the judge is told before any model answers.
        suite = rubric.suite(asked, Ground(root, models=opener(root)))
        assert isinstance(suite, rubric.Rubrics)
        people = suite.gold
    if pairs:
        paired = pairwise.suite(compared, Ground(root, models=opener(root)))
        assert isinstance(paired, pairwise.Pairs)
        people = paired.gold or people
        if paired.gold is not None and len(models) > 2 and paired.gold.unnamed:
            what = f"{paired.gold.unnamed:,} records do not say which of the {len(models)} models they compare"
            raise DataError(Problem("E172", what, file=options.gold, fix="name model_a and model_b in each"))
    with tempfile.TemporaryDirectory(prefix="sartor-judge-") as scratch, _kept(keep) as folder:
        dataset = Dataset.write(_rows_of(data, root), Path(scratch))
        files = {
            name: Given.read(path, model)
            for model, name in zip(models, names, strict=True)
            if (path := root / Path(model).expanduser()).is_file()
        }
        there = _there(dataset, files, emit)
        whole = Ground(root, rows=dataset, test=there, seed=seed)
        places = [there[place] for place in drawn(whole, options.rows, _gold.named_rows(people))]
        rows = [dataset[place] for place in places]
        known = {name: given.outcomes(rows) for name, given in files.items()}
        folders = {name: find(model, root) for model, name in zip(models, names, strict=True) if name not in files}
        known |= _answered(folders, dataset, places, max_new_tokens, batch, emit)
        ground = Ground(root, rows=rows, test=range(len(rows)), seed=seed, models=opener(root))
        metrics: tuple[Mapping[str, Any], ...] = ()
        found: list[Mapping[str, Any]] = []
        told: list[Mapping[str, Any]] = []
        rated: list[Rating] = []
        if asked is not None:
            by_rubric = rubric.suite(asked, ground)
            assert isinstance(by_rubric, rubric.Rubrics)
            emit(Stage("judge", f"{len(names)} x {len(rows):,} answers"))
            units = range(len(rows))
            scored = {name: list(by_rubric.judged(name, known[name], units, folder, emit)) for name in names}
            metrics = against_first(scored, by_rubric.metrics, confidence, seed)
            told += details(scored, by_rubric.metrics, confidence=confidence)
        if pairs:
            count = len(names) * (len(names) - 1) // 2
            emit(Stage("judge", f"{count} x {len(rows):,} pairs, both orders"))
            outcomes = _met(names, known, rows, compared, ground, folder, emit)
            for against, name in combinations(names, 2):
                pair, tables = _pair(name, against, outcomes[name], compared, root, confidence, seed)
                found.append(pair)
                told += tables
            if len(names) >= RATED and any(pair["scores"]["win_rate"] for pair in found):
                rated = _rated(names, outcomes, compared, confidence, seed)
    return Judged(
        data=data,
        judge=options.model,
        rows=len(rows),
        of=len(there),
        models=names,
        metrics=metrics,
        pairs=tuple(found),
        ratings=tuple(rated),
        notes=tuple(filter(None, [favours(options, _lineage(models, root)), trust(people)])),
        confidence=confidence,
        seconds=time.monotonic() - began,
        details=tuple(told),
    )


def judging_options(*, price: str | None, **given: Any) -> Judging:
    """Options as a recipe has them, of what is given on the command line. Raises InputError E171 with what is wrong."""
    body = {name: value for name, value in given.items() if value is not None}
    if price is not None:
        try:
            read_, written = (float(part) for part in price.split(","))
        except ValueError:
            raise InputError(Problem("E171", f'"{price}" is no price', fix="--price 0.5,1.5")) from None
        body["price"] = Price(read=read_, written=written)
    try:
        return Judging.model_validate(body)
    except ValidationError as error:
        fault = error.errors()[0]
        what = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise InputError(Problem("E171", what, fix="sartor judge --help")) from None


def _refuse(models: Sequence[str], options: Judging, rubrics: Sequence[str], pairs: bool) -> None:
    if pairs and len(models) < 2:
        what = "pairs need the answers of at least two models"
        raise InputError(Problem("E171", what, fix="name another MODEL, or leave --pairwise out"))
    if pairs and rubrics and options.gold is not None:
        what = "judgements by people are scores or comparisons, and here both rubrics and pairs are asked for"
        raise InputError(
            Problem("E171", what, file=options.gold, fix="two calls, one with --rubric and one with --pairwise")
        )


def _options(options: Judging, rubrics: Sequence[str]) -> tuple[rubric.Options | None, pairwise.Options]:
    """Those of rubrics, if any are asked for, and those of pairs."""
    given = options.model_dump()
    asked = rubric.Options.model_validate(given | {"rubrics": tuple(rubrics)}) if rubrics else None
    return asked, pairwise.Options.model_validate(given)


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="sartor-judge-") as made:
        yield Path(made)


def _rows_of(data: str, root: Path) -> Iterator[Row]:
    """All rows that ask something, with or without an answer. Raises DataError after the last one with every fault."""
    findings = Findings()
    strange: list[Problem] = []
    for path in expand(data, root):
        for row in read(path, findings=findings, label=data if path == root / data else str(path)):
            if isinstance(row, Example | Prompt):
                row = _called(row)
                owner = None if row.id is None else findings.claim(row.id, row.origin)
                if owner:
                    what = f'id "{row.id}" is already that of {owner}'
                    strange.append(
                        Problem("D114", what, row.origin.file, row.origin.line, fix="give every row its own id")
                    )
                else:
                    yield row
            elif not strange:
                what = f"rows of kind {row.kind} ask nothing that a model answers in words"
                strange.append(Problem("E173", what, row.origin.file, row.origin.line, fix="give rows with prompts"))
    raise_errors(DataError, [*findings.errors, *strange])


def _called(row: Row) -> Row:
    """By the column `id`, where it has one."""
    given = row.columns.get("id")
    return replace(row, id=str(given)) if row.id is None and isinstance(given, str | int) else row


def _there(dataset: Dataset, files: Mapping[str, Given], emit: Emit) -> list[int]:
    """Places of the rows that every file of predictions answers; how many it does not is said.

    Raises DataError E120 where there are none.
    """
    there = list(range(len(dataset)))
    for name, given in files.items():
        left = [place for place in there if given.of(dataset[place]) is not None]
        if not left:
            given.require([dataset[place] for place in there])
        if len(left) < len(there):
            what = f"{len(there) - len(left):,} of {len(there):,} rows have no prediction in {name}; they are left out for all"
            emit(Noted("warning", "E120", what))
        there = left
    return there


def _answered(
    folders: Mapping[str, ModelFolder],
    dataset: Dataset,
    places: Sequence[int],
    max_new_tokens: int | None,
    batch: int,
    emit: Emit,
) -> Iterator[tuple[str, list[Outcome]]]:
    """The answers of every model; one is gone from memory before the next one is opened."""
    rows = [dataset[place] for place in places]
    if max_new_tokens is None and folders:
        references = [text for row in rows if (text := row.answer_text())]
        renderers = {name: renderer_for(folder) for name, folder in folders.items()}
        max_new_tokens = longest_answer(references, renderers) if references else MOST_NEW_TOKENS
    for name, folder in folders.items():
        emit(Stage("answer", f"{name} on {len(rows):,} rows"))
        outcomes = measured(
            folder, dataset, places, name=name, labels=(), shots=(),
            max_new_tokens=max_new_tokens or 1, batch=batch, want=frozenset({"prediction"}), emit=emit,
        )  # fmt: skip
        gc.collect()
        if any(outcome.prediction is None for outcome in outcomes):
            what = "this model has a head and writes no answers that a judge could read"
            raise ModelError(Problem("M174", what, file=str(folder.path), fix="sartor eval"))
        yield name, outcomes


def _met(
    names: Sequence[str],
    known: Mapping[str, Sequence[Outcome]],
    rows: Sequence[Row],
    options: pairwise.Options,
    ground: Ground,
    folder: Path,
    emit: Emit,
) -> dict[str, list[Outcome]]:
    """Every model with what was said of it and each model before it."""
    found: dict[str, list[Outcome]] = {}
    for name in names:
        suite = pairwise.Pairs(options, ground, range(len(rows)), None, names)
        ground.known[name] = known[name]
        found[name] = list(suite.judged(name, known[name], range(len(rows)), folder, emit))
    return found


def _pair(
    name: str,
    against: str,
    outcomes: Sequence[Outcome],
    options: pairwise.Options,
    root: Path,
    confidence: float,
    seed: int,
) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """(the win rates of one model against another, the tables of what they come from)"""
    gold = None if options.gold is None else _gold.preferences(options.gold, root)
    rates = pairwise.rates(against, "", options, gold)
    comparison = compare({name: outcomes}, rates, confidence=confidence, seed=seed)
    (body,) = [comparison.json()]
    scores = {metric["name"]: metric["scores"].get(name) for metric in body["metrics"]}
    tables = [{**one, "title": f"{name}: {one['title'][0].lower()}{one['title'][1:]}"} for one in comparison.details]
    return {"model": name, "against": against, "scores": scores}, list(tables)


def _rated(
    names: Sequence[str],
    outcomes: Mapping[str, Sequence[Outcome]],
    options: pairwise.Options,
    confidence: float,
    seed: int,
) -> list[Rating]:
    rows = np.full((len(outcomes[names[0]]), len(names), len(names)), np.nan)
    for one, other in combinations(range(len(names)), 2):
        wins = pairwise.WinRate(names[one], "", options, None).wins(outcomes[names[other]])
        rows[:, other, one], rows[:, one, other] = wins, 1 - wins
    return ratings(names, rows, confidence=confidence, seed=seed)


def _lineage(models: Sequence[str], root: Path) -> list[str]:
    """What is judged, and what adapters among it stand on."""
    folders = [find(model, root) for model in models if not (root / Path(model).expanduser()).is_file()]
    return [*models, *(str(folder.base.path) for folder in folders if folder.base is not None)]
