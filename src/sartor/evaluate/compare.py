"""Compares models on the same rows: a score with its interval for each, and the paired difference of one to every other.

B: resamples, n: rows, k: statistics of a metric. One [B, n] matrix of row weights serves all models and metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from sartor.evaluate import intervals
from sartor.evaluate.corrections import Correction, adjusted
from sartor.evaluate.flips import Flips, find_flips
from sartor.evaluate.permutation import permutation_p
from sartor.protocols import Detailed, Metric, Outcome, Scaled

SMALL = 10
"""With fewer rows no interval deserves trust; the comparison says so."""

HELD: Mapping[str, Callable[[Outcome], bool]] = {
    "label": lambda outcome: outcome.label is not None or outcome.labels is not None,
    "probabilities": lambda outcome: bool(outcome.label_scores),
    "value": lambda outcome: outcome.value is not None,
    "tags": lambda outcome: outcome.tags is not None,
    "answers": lambda outcome: bool(outcome.scores),
}
"""What a metric needs -> whether a row holds it; where none does, the generated text is judged."""
NO_TEXT = ("probabilities", "answers")
"""What no text can stand for."""

Word = Literal["better", "worse", "no difference seen"]
SAME: Word = "no difference seen"
Test = Literal["bootstrap", "permutation"]
"""What gives the p-value of a difference where rows are not simply right or wrong."""


@dataclass(frozen=True, slots=True)
class Score:
    """One model on one metric."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Subject minus other on the same rows, in the metric's own unit. `word` says which way the whole interval lies."""

    value: float
    low: float
    high: float
    p: float
    test: Literal["McNemar", "bootstrap", "permutation"]
    word: Word
    adjusted: float = float("nan")
    """p, allowing for all differences of the comparison."""
    survives: bool = True
    """Whether "better" or "worse" still holds then."""
    rows_to_decide: int | None = None
    """Where no difference was seen: how many more rows like these would show one as large as it was measured, four times out
    of five; None where one was seen, or where none of any size was measured."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """A metric of one model: what every interval is made from."""

    value: float
    each: np.ndarray
    """[n] the metric of each row alone"""
    without: np.ndarray
    """[n] the metric of all rows but one"""
    resampled: np.ndarray
    """[B]"""
    right: np.ndarray | None
    """[n] bool, where on these rows the metric is a plain share of rows that are right"""
    stats: np.ndarray
    """[n, k]"""

    def interval(self, confidence: float) -> intervals.Interval:
        if self.right is not None:
            return intervals.wilson(int(self.right.sum()), self.right.size, confidence)
        return intervals.bca(self.resampled, self.value, self.without, confidence)

    def error(self) -> float:
        """Standard error; for scores between 0 and 1 that do not vary at all, that of a share."""
        if self.right is not None:
            return intervals.share_error(float(self.right.sum()), self.right.size)
        error = intervals.standard_error(self.without)
        bounded = bool(np.isfinite(self.each).all() and (self.each >= 0).all() and (self.each <= 1).all())
        return intervals.share_error(float(self.each.sum()), self.each.size) if error == 0 and bounded else error


class Comparison:
    """The result of `compare`. Scores and differences are given at any level of confidence."""

    def __init__(
        self,
        measured: Mapping[str, Mapping[str, _Measured]],
        metrics: Sequence[Metric],
        models: Sequence[str],
        *,
        rows: int,
        confidence: float,
        resamples: int,
        seed: int,
        flips: Flips | None,
        details: Sequence[Mapping[str, Any]] = (),
        correction: Correction = "holm",
        test: Test = "bootstrap",
        baseline: str | None = None,
        called: Mapping[str, str] | None = None,
    ) -> None:
        self._measured = measured
        self._metrics = {metric.name: metric for metric in metrics}
        self.models = tuple(models)
        self.rows = rows
        self.confidence = confidence
        self.resamples = resamples
        self.seed = seed
        self.flips = flips
        """Rows that changed sides; None where there is nothing to compare with."""
        self.details = tuple(details)
        """Tables of metrics that say where their values come from: metric, title, columns, and for each model rows and note."""
        self.correction: Correction = correction
        self.test: Test = test
        self.baseline = baseline
        """Where there is one, every other model is compared with it, in place of the subject with every other."""
        self.slices: Mapping[str, Any] | None = None
        """What `evaluate.slices` tells of parts of the rows; None where they were not cut."""
        self.called = dict(called or {})
        """What models are called for people, where that is not their name."""
        self._p: dict[tuple[str, str, str], float] = {}

    def with_slices(self, told: Mapping[str, Any]) -> Comparison:
        """The same comparison with `Slices.json()` beside it."""
        found = copy(self)
        found.slices = told
        return found

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics; the first is the main one."""
        return tuple(self._metrics)

    @property
    def subject(self) -> str:
        """The model that is compared with every other: tuned, or else the last one."""
        return subject(self.models)

    @property
    def small(self) -> bool:
        """Whether there are too few rows for any interval to deserve trust."""
        return self.rows < SMALL

    def higher_is_better(self, metric: str) -> bool:
        """Direction of a metric. Raises KeyError for one that was not measured."""
        return self._metrics[metric].higher_is_better

    def is_share(self, metric: str) -> bool:
        """Whether the metric is a share of rows that are right, to be shown in percent."""
        measured = self._measured.get(metric, {})
        return bool(measured) and all(one.right is not None for one in measured.values())

    def score(self, metric: str, model: str, confidence: float | None = None) -> Score | None:
        """A model's score with its interval; None where it was not measured."""
        one = self._measured.get(metric, {}).get(model)
        if one is None:
            return None
        return Score(one.value, *one.interval(self.confidence if confidence is None else confidence))

    def difference(self, metric: str, other: str, confidence: float | None = None) -> Difference | None:
        """Subject minus `other`, or `other` minus the baseline; None where one of them was not measured."""
        pair = self._pair(metric, other)
        if pair is None:
            return None
        ours, theirs = (self._measured[metric][model] for model in pair)
        level = self.confidence if confidence is None else confidence
        value, interval, test = ours.value - theirs.value, self._interval(metric, pair, level), self._test(metric, pair)
        word = self._word(metric, interval)
        p, corrected = self._chance(metric, pair), self._corrected.get((metric, other), float("nan"))
        return Difference(
            value,
            *interval,
            p=p,
            test=test,
            word=word,
            adjusted=corrected,
            survives=word == SAME or not corrected > 1 - self.confidence,
            rows_to_decide=self._more_rows(metric, pair, level) if word == SAME else None,
        )

    def _pair(self, metric: str, other: str) -> tuple[str, str] | None:
        """(ours, theirs) of the difference that is called after `other`."""
        pair = (self.subject, other) if self.baseline is None else (other, self.baseline)
        measured = self._measured.get(metric, {})
        return pair if pair[0] != pair[1] and all(model in measured for model in pair) else None

    def _shares(self, metric: str, pair: tuple[str, str]) -> tuple[int, int] | None:
        """(rows gained, rows lost), where rows are right or wrong for both."""
        ours, theirs = (self._measured[metric][model].right for model in pair)
        if ours is None or theirs is None:
            return None
        return int((ours & ~theirs).sum()), int((theirs & ~ours).sum())

    def _interval(self, metric: str, pair: tuple[str, str], level: float) -> intervals.Interval:
        shares = self._shares(metric, pair)
        if shares is not None:
            return intervals.bonett_price(*shares, self.rows, level)
        ours, theirs = (self._measured[metric][model] for model in pair)
        value = ours.value - theirs.value
        return intervals.bca(ours.resampled - theirs.resampled, value, ours.without - theirs.without, level)

    def _test(self, metric: str, pair: tuple[str, str]) -> Literal["McNemar", "bootstrap", "permutation"]:
        return self.test if self._shares(metric, pair) is None else "McNemar"

    def _chance(self, metric: str, pair: tuple[str, str]) -> float:
        """The p-value, made once."""
        key = (metric, *pair)
        if key not in self._p:
            shares = self._shares(metric, pair)
            ours, theirs = (self._measured[metric][model] for model in pair)
            if shares is not None:
                self._p[key] = intervals.mcnemar(*shares)
            elif self.test == "permutation":
                combine = self._metrics[metric].combine
                self._p[key] = permutation_p(
                    ours.stats, theirs.stats, combine, exchanges=self.resamples, seed=self.seed
                )
            else:
                self._p[key] = intervals.bootstrap_p(ours.resampled - theirs.resampled, self.rows)
        return self._p[key]

    @cached_property
    def _corrected(self) -> dict[tuple[str, str], float]:
        """The adjusted p-value of every difference, by metric and model."""
        found = {
            (metric, other): self._chance(metric, pair)
            for metric in self.metrics
            for other in self.models
            if (pair := self._pair(metric, other)) is not None
        }
        return dict(zip(found, adjusted(list(found.values()), self.correction), strict=True))

    def _more_rows(self, metric: str, pair: tuple[str, str], level: float) -> int | None:
        """How many more rows a difference as large as the one measured would take, from its paired standard error."""
        ours, theirs = (self._measured[metric][model] for model in pair)
        gap, shares = abs(ours.value - theirs.value), self._shares(metric, pair)
        if shares is not None:
            error = intervals.paired_error(*shares, self.rows)
        else:
            error = intervals.standard_error(ours.without - theirs.without)
        if not gap > 0 or not error > 0:
            return None
        return max(1, intervals.needed(gap, error * math.sqrt(self.rows), level) - self.rows)

    def detectable(self, metric: str) -> float | None:
        """Smallest true difference to the first model that these rows would show, known before the subject is measured."""
        one = self._measured.get(metric, {}).get(self.models[0])
        return None if one is None else _known(intervals.detectable(one.error(), self.confidence))

    def json(self) -> dict[str, Any]:
        """Everything as a JSON object; `report.py` reads exactly this."""
        return {
            "rows": self.rows,
            "small": self.small,
            "confidence": self.confidence,
            "resamples": self.resamples,
            "seed": self.seed,
            "correction": self.correction,
            "comparisons": len(self._corrected),
            "models": list(self.models),
            "called": self.called,
            "baseline": self.baseline,
            "subject": self.subject,
            "metrics": [self._metric_json(name) for name in self.metrics],
            "flips": None if self.flips is None else self.flips.json(),
            "slices": None if self.slices is None else dict(self.slices),
            "details": [dict(table) for table in self.details],
        }

    def _metric_json(self, name: str) -> dict[str, Any]:
        scores = {model: self.score(name, model) for model in self.models}
        differences = {model: self.difference(name, model) for model in self.models}
        return {
            "name": name,
            "higher_is_better": self.higher_is_better(name),
            "share": self.is_share(name),
            "detectable": self.detectable(name),
            "scores": {model: _plain(score) for model, score in scores.items() if score is not None},
            "differences": {model: _plain(one) for model, one in differences.items() if one is not None},
        }

    def _word(self, metric: str, interval: intervals.Interval) -> Word:
        if interval.low > 0 or interval.high < 0:
            return "better" if (interval.low > 0) == self.higher_is_better(metric) else "worse"
        return SAME


def subject(models: Sequence[str]) -> str:
    """The model that is compared with the others: tuned, or else the last one."""
    return "tuned" if "tuned" in models else models[-1]


def compare(
    outcomes: Mapping[str, Sequence[Outcome]],
    metrics: Sequence[Metric],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    correction: Correction = "holm",
    test: Test = "bootstrap",
    baseline: str | None = None,
    called: Mapping[str, str] | None = None,
) -> Comparison:
    """Score every model on every metric, and the subject against every other model, on the same rows.

    With a `baseline`, every other model is compared with that one instead. `correction` allows for the number of differences,
    `test` gives p-values where rows are not simply right or wrong. `outcomes` holds each model's rows; models that were not measured are simply absent. A metric is left out for a model
    that lacks what it needs. Deterministic in `seed`.

    Raises ValueError without rows or models, or where models were given different rows.
    """
    models = list(outcomes)
    aligned = _aligned(outcomes)
    rows = len(aligned[models[0]])
    stats = {
        metric.name: {model: metric.stats(aligned[model]) for model in models if measured_by(metric, aligned[model])}
        for metric in metrics
    }
    resampled: dict[str, dict[str, list[np.ndarray]]] = {
        name: {model: [] for model in given} for name, given in stats.items()
    }
    by_name = {metric.name: metric for metric in metrics}
    for chunk in intervals.weights(rows, resamples, seed):
        for name, given in stats.items():
            for model, lines in given.items():
                resampled[name][model].append(by_name[name].combine(chunk @ lines))
    measured = {
        name: {
            model: _measure(by_name[name], lines, np.concatenate(resampled[name][model]))
            for model, lines in given.items()
        }
        for name, given in stats.items()
    }
    measured = {
        name: {model: one for model, one in given.items() if np.isfinite(one.value)} for name, given in measured.items()
    }
    return Comparison(
        measured,
        metrics,
        models,
        rows=rows,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        flips=_flips(aligned, metrics, measured),
        details=details(aligned, metrics, confidence=confidence),
        correction=correction,
        test=test,
        baseline=baseline,
        called=called,
    )


def details(
    outcomes: Mapping[str, Sequence[Outcome]], metrics: Sequence[Metric], *, confidence: float
) -> list[dict[str, Any]]:
    """The tables of every metric that has some, each title once: metric, title, columns, and of each model rows and note."""
    found: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        if not isinstance(metric, Detailed):
            continue
        shown = set(found)
        for model, rows in outcomes.items():
            for table in metric.details(rows, confidence) if measured_by(metric, rows) else ():
                if table.title in shown:
                    continue
                head = {"metric": metric.name, "title": table.title, "columns": list(table.columns), "models": {}}
                entry = found.setdefault(table.title, head)
                entry["models"][model] = {"rows": [list(row) for row in table.rows], "note": table.note}
    return list(found.values())


def detectable(outcomes: Sequence[Outcome], metrics: Sequence[Metric], *, confidence: float = 0.95) -> dict[str, float]:
    """For each metric the smallest true difference that a test on these rows would show four times out of five.

    From the base model's rows alone, so it is known before training. Metrics that cannot be told yet are left out.
    """
    found = {}
    for metric in metrics:
        if measured_by(metric, outcomes):
            one = _measure(metric, metric.stats(outcomes), np.empty(0))
            found[metric.name] = intervals.detectable(one.error(), confidence)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _measure(metric: Metric, stats: np.ndarray, resampled: np.ndarray) -> _Measured:
    total = stats.sum(axis=0)
    without = metric.combine(total - stats) if len(stats) > 1 else np.empty(0)
    value, each = float(metric.combine(total)), metric.combine(stats)
    share = not isinstance(metric, Scaled) and is_share(each, value)
    return _Measured(value, each, without, resampled, each == 1 if share else None, stats)


def is_share(each: np.ndarray, value: float) -> bool:
    """Whether a score is the share of rows that are right, given the score of [n] each row alone."""
    return bool(np.isin(each, (0.0, 1.0)).all()) and math.isclose(value, each.mean(), abs_tol=1e-12)


def _aligned(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, list[Outcome]]:
    """Every model's outcomes in the order of the first model's rows."""
    if not outcomes:
        raise ValueError("no model to compare")
    order = [outcome.id for outcome in next(iter(outcomes.values()))]
    if not order:
        raise ValueError("no rows to compare on")
    if len(set(order)) < len(order):
        raise ValueError("rows of a comparison need different ids")
    aligned = {}
    for model, given in outcomes.items():
        found = {outcome.id: outcome for outcome in given}
        if found.keys() != set(order) or len(given) != len(order):
            raise ValueError(f"{model} was measured on other rows than {next(iter(outcomes))}")
        aligned[model] = [found[identity] for identity in order]
    return aligned


def measured_by(metric: Metric, outcomes: Sequence[Outcome]) -> bool:
    """Whether these rows hold what a metric needs."""
    if metric.needs == "nll":
        return any(outcome.tokens for outcome in outcomes)
    if metric.needs in HELD and any(HELD[metric.needs](outcome) for outcome in outcomes):
        return True
    return metric.needs not in NO_TEXT and any(outcome.prediction is not None for outcome in outcomes)


def _flips(
    outcomes: Mapping[str, Sequence[Outcome]],
    metrics: Sequence[Metric],
    measured: Mapping[str, Mapping[str, _Measured]],
) -> Flips | None:
    """Flips from the first other model to the subject, on the main metric if it was measured for both."""
    ours = subject(list(outcomes))
    theirs = next((model for model in outcomes if model != ours), ours)
    for metric in metrics:
        given = measured[metric.name]
        if theirs != ours and theirs in given and ours in given:
            return find_flips(metric, outcomes[theirs], outcomes[ours], given[theirs].each, given[ours].each)
    return None


def _plain(entry: Score | Difference) -> dict[str, Any]:
    return {key: _known(value) if isinstance(value, float) else value for key, value in asdict(entry).items()}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
