"""The verdict: every gate of the recipe decided on the bound of an interval, never on the point alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sartor.errors import Problem
from sartor.evaluate.compare import Comparison, Difference, Score
from sartor.evaluate.intervals import wilson
from sartor.evaluate.numbers import difference_text, score_text
from sartor.evaluate.slices import Part, Slices
from sartor.recipe.schema import Gate

LARGEST_TEST = 100_000
"""Rows up to which `needed_rows` looks."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One gate with what it was decided on: a score, or a paired difference."""

    metric: str
    rule: str
    value: float | None
    low: float | None
    high: float | None
    passed: bool
    note: str
    """One sentence for people."""

    def json(self) -> dict[str, Any]:
        """An entry of `gates` in verdict.json."""
        return {
            "metric": self.metric,
            "rule": self.rule,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "pass": self.passed,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """All gates together. It passes when each of them does."""

    gates: tuple[Decided, ...]
    scores: Mapping[str, Mapping[str, float]]
    """model -> metric -> value"""
    sentence: str
    """The result in one sentence."""

    @property
    def passed(self) -> bool:
        """Whether every gate passed; decides the exit code."""
        return all(gate.passed for gate in self.gates)

    def json(self, *, train: Mapping[str, Any] | None = None, model: str | None = None) -> dict[str, Any]:
        """verdict.json; `train` holds steps, tokens, seconds and so on, `model` the path of what was judged."""
        return {
            "pass": self.passed,
            "sentence": self.sentence,
            "gates": [gate.json() for gate in self.gates],
            "scores": {name: dict(values) for name, values in self.scores.items()},
            "train": None if train is None else dict(train),
            "model": model,
        }


def default_gates(metrics: Sequence[str], against: Sequence[str] = ("base",)) -> tuple[Gate, ...]:
    """The gate of a recipe that names none: on the main metric the tuned model is better than the base.

    Without the base among the models there is nothing to be better than, and no gate.
    """
    return (Gate(metric=metrics[0], better_than="base"),) if metrics and "base" in against else ()


def judge(
    gates: Sequence[Gate],
    comparison: Comparison,
    *,
    base: str = "its base",
    suites: Sequence[Comparison] = (),
    besides: Sequence[Gate] = (),
    slices: Slices | None = None,
) -> Verdict:
    """Decide every gate. Without gates, the one of `default_gates`. A gate on what was not measured fails.

    `base` is what the base is called for people, where something stands for it. A gate on a metric of one of `suites` is
    decided there, and its scores are among those of the verdict. `besides` are decided as well, whatever `gates` are.
    A gate with a slice is decided on each of the `slices` it names.
    """
    chosen = (*(tuple(gates) or default_gates(comparison.metrics, comparison.models[:-1])), *besides)
    decided = tuple(
        _decide(gate, _home(gate, comparison, suites)) if gate.slice is None else _decide_slices(gate, slices)
        for gate in chosen
    )
    scores: dict[str, dict[str, float]] = {}
    for measured in (comparison, *suites):
        for model in measured.models:
            found = {metric: measured.score(metric, model) for metric in measured.metrics}
            told = {metric: score.value for metric, score in found.items() if score is not None}
            scores[model] = scores.get(model, {}) | told
    return Verdict(decided, scores, _sentence(decided, comparison, base))


def _home(gate: Gate, comparison: Comparison, suites: Sequence[Comparison]) -> Comparison:
    """Where the metric of a gate was measured."""
    return next((each for each in suites if gate.metric in each.metrics), comparison)


def check(
    gates: Sequence[Gate],
    *,
    against: Sequence[str],
    metrics: Sequence[str],
    rows: int | None = None,
    slices: Sequence[str] = (),
) -> list[Problem]:
    """What is wrong with gates before anything is trained; the codes are R145 (error) and R146 (warning).

    `metrics` are the names that will be measured. With the number of test `rows` known, a gate that even a perfect score
    could not pass is told, with the rows it would need. `slices` are the fields by which rows are cut.
    """
    problems = []
    for gate in gates:
        rule = _rule(gate)
        other = gate.better_than or ("base" if gate.drop_at_most is not None else None)
        if other is not None and other not in against:
            problems.append(
                Problem(
                    "R145",
                    f"gate {gate.metric} {rule} needs {other}, which evaluate.against leaves out",
                    fix=f"add {other}",
                )
            )
        if gate.slice is not None and not (slices if gate.slice == "all" else gate.slice.partition("=")[0] in slices):
            field = "FIELD" if gate.slice == "all" else gate.slice.partition("=")[0]
            what = f"gate {gate.metric} {rule} needs slices that are not made"
            problems.append(Problem("R145", what, fix=f"evaluate.slices: [{field}]"))
        if gate.metric not in metrics:
            problems.append(
                Problem(
                    "R145", f"gate {gate.metric} {rule}: the metric is not measured", fix="add it to evaluate.metrics"
                )
            )
        if rows and gate.metric in SHARES and gate.at_least is not None:
            best = wilson(rows, rows, gate.confidence).low
            if best < gate.at_least:
                problems.append(_out_of_reach(gate, rows, best))
    return problems


SHARES = ("accuracy", "exact_match", "json_exact", "json_valid", "normalised_match", "stop_rate")
"""Metrics that are a share of right rows whatever the data, so that the best possible interval is known beforehand."""


def needed_rows(share: float, confidence: float) -> int | None:
    """Fewest test rows on which a perfect result proves at least this share; None where none would."""
    if share >= 1:
        return None
    low, high = 1, LARGEST_TEST
    if wilson(high, high, confidence).low < share:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if wilson(middle, middle, confidence).low >= share else (middle + 1, high)
    return low


def _out_of_reach(gate: Gate, rows: int, best: float) -> Problem:
    needed = needed_rows(gate.at_least or 0.0, gate.confidence)
    more = f"use {needed:,} test rows, or ask" if needed else "ask"
    return Problem(
        "R146",
        f"gate {gate.metric} {_rule(gate)} cannot pass on {rows:,} test rows: all of them right proves {best:.3f} at most",
        level="warning",
        fix=f"{more} for at_least: {math.floor(best * 100) / 100:g}",
    )


def _rule(gate: Gate) -> str:
    for name in ("at_least", "at_most", "better_than", "drop_at_most"):
        value = getattr(gate, name)
        if value is not None:
            where = "" if gate.slice is None else " in every slice" if gate.slice == "all" else f" where {gate.slice}"
            return f"{name} {value}{where}"
    raise AssertionError("the schema gives every gate a rule")


def _decide(gate: Gate, comparison: Comparison) -> Decided:
    if gate.metric not in comparison.metrics:
        return _missing(gate, f"{gate.metric} was not measured")
    share = comparison.is_share(gate.metric)
    if gate.at_least is not None or gate.at_most is not None:
        score = comparison.score(gate.metric, comparison.subject, gate.confidence)
        if score is None:
            return _missing(gate, f"{gate.metric} was not measured for {comparison.subject}")
        return _decide_score(gate, score, share=share)
    other = gate.better_than or "base"
    difference = comparison.difference(gate.metric, other, gate.confidence)
    if difference is None:
        return _missing(gate, f"{gate.metric} was not measured for both {comparison.subject} and {other}")
    return _decide_difference(
        gate,
        difference,
        higher=comparison.higher_is_better(gate.metric),
        share=share,
        other=comparison.called.get(other, other),
    )


def _decide_slices(gate: Gate, slices: Slices | None) -> Decided:
    """A gate that must hold on every slice it names; the value is that of the slice nearest to failing.

    All of them have to pass, each at the gate's own confidence, so the chance that it passes wrongly does not grow with their number
    (an intersection-union test: Berger 1982).
    """
    parts = [] if slices is None else slices.named(gate.slice or "all")
    if not parts:
        return _missing(gate, f"no slice {gate.slice} was measured")
    each = [(part, _decide(gate, part.comparison)) for part in parts]
    failed = [(part, decided) for part, decided in each if not decided.passed]
    part, told = min(failed or each, key=lambda one: _margin(gate, one))
    note = f"{part.name}: {told.note}"
    if len(parts) > 1:
        note = (
            f"{len(failed)} of {len(parts)} slices fail; {note}"
            if failed
            else f"all {len(parts)} slices; nearest {note}"
        )
    return replace(told, note=note)


def _margin(gate: Gate, one: tuple[Part, Decided]) -> float:
    """How far the bound that decides lies on the good side of the limit."""
    part, decided = one
    if decided.low is None or decided.high is None:
        return -math.inf
    if gate.at_least is not None:
        return decided.low - gate.at_least
    if gate.at_most is not None:
        return gate.at_most - decided.high
    worst = decided.low if part.comparison.higher_is_better(gate.metric) else -decided.high
    return worst + (gate.drop_at_most or 0.0)


def _decide_score(gate: Gate, score: Score, *, share: bool) -> Decided:
    if gate.at_least is not None:
        passed, bound, limit, side = score.low >= gate.at_least, score.low, gate.at_least, "at least"
    else:
        assert gate.at_most is not None
        passed, bound, limit, side = score.high <= gate.at_most, score.high, gate.at_most, "at most"
    told = f"{side} {score_text(limit, share)} wanted, {score_text(bound, share)} shown at {100 * gate.confidence:g} %"
    note = f"{told} (measured {score_text(score.value, share)})"
    return Decided(gate.metric, _rule(gate), score.value, score.low, score.high, passed, note)


def _decide_difference(gate: Gate, difference: Difference, *, higher: bool, share: bool, other: str) -> Decided:
    worst = difference.low if higher else -difference.high
    if gate.drop_at_most is None:
        passed = worst > 0
        other = other.replace("_", "-")
        note = {"better": f"better than {other}", "worse": f"worse than {other}"}.get(
            difference.word, f"no difference to {other} seen"
        )
    else:
        passed = worst >= -gate.drop_at_most
        drop = max(0.0, -worst)
        note = f"a drop of at most {score_text(gate.drop_at_most, share)} wanted, one of {score_text(drop, share)} not excluded"
        if passed:
            note = f"no drop beyond {score_text(gate.drop_at_most, share)}"
    low, high = difference_text(difference.low, share), difference_text(difference.high, share)
    note += f": {difference_text(difference.value, share)} [{low}, {high}]"
    return Decided(gate.metric, _rule(gate), difference.value, difference.low, difference.high, passed, note)


def _missing(gate: Gate, why: str) -> Decided:
    return Decided(gate.metric, _rule(gate), None, None, None, False, why)


def _sentence(gates: Sequence[Decided], comparison: Comparison, base: str) -> str:
    subject = comparison.subject
    name = "The tuned model" if subject == "tuned" else subject
    rows = f"{comparison.rows:,} test row{'s' if comparison.rows != 1 else ''}"
    if not gates:
        return f"{name} was measured on {rows}; nothing was asked of it."
    passed = sum(gate.passed for gate in gates)
    main = comparison.metrics[0]
    other = next((model for model in comparison.models if model != subject), None)
    difference = comparison.difference(main, other) if other else None
    score, before = comparison.score(main, subject), comparison.score(main, other) if other else None
    share = comparison.is_share(main)
    told = ""
    if difference is not None and score is not None and before is not None:
        word = {"better": "better than", "worse": "worse than"}.get(difference.word, "not seen to differ from")
        figures = f"{main} {score_text(before.value, share)} → {score_text(score.value, share)}"
        seen = " it never saw" if subject == "tuned" else ""
        told = f"{name} is {word} {base if other == 'base' else other} on {rows}{seen}: {figures}. "
    gate_word = "gate" if len(gates) == 1 else "gates"
    if passed == len(gates):
        return f"{told}Passed {'the' if passed == 1 else f'all {passed}'} {gate_word}."
    return f"{told}Failed {len(gates) - passed} of {len(gates)} {gate_word}."
