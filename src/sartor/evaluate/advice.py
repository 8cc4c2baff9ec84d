"""What to try next, each suggestion with the evidence it rests on, the most promising first.

A rule looks at the facts of a report and gives suggestions or none; it never repeats what a run has already done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sartor.evaluate.facts import Curve, ReportFacts
from sartor.evaluate.numbers import difference_text, score_text

STILL_FALLING = 0.01
"""Share by which the last validation must be below the one before for training to have been cut short."""
EARLY = 0.4
"""Share of the steps before which the best weights mean that most of the training was too much."""
BROKEN = 0.05
"""Share of test rows that got worse from which they are worth reading."""
STOPS = 0.95
"""Share of answers that end by themselves, below which something is wrong."""
LEFT_OUT = 0.1
"""Share of the rows left out from which that is worth a look."""
FINDINGS = 2
"""Findings of the data that are told."""

REMEDIES: Mapping[str, str] = {
    "general": "mix general rows in ({path: builtin:general, role: replay, weight: 0.1}), or go part of the way: "
    "sartor interpolate RUN",
    "safety-bias": "data.augment: [counterfactual] shows each row with its mentions swapped",
    "safety-stereotypes": "data.augment: [counterfactual] shows each row with its mentions swapped",
    "safety-toxicity": "sartor data check finds the rows to leave out; data.clean: [quality]",
    "safety-memorisation": "fewer epochs, data.clean: [near_duplicates], and redact what must not be learnt by heart",
    "safety-over_refusal": "add harmless rows that sound like refused ones, with helpful answers",
    "safety-jailbreak": "add such requests with the refusal that is wanted, or start from a base that refuses",
}
"""What helps where a suite finds the tuned model worse than its base."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One suggestion."""

    what: str
    """What to do, as a command or a line of the recipe where there is one."""
    because: str
    """The evidence, with its numbers."""
    where: str
    """Id of the section of the report that shows it."""


def next_steps(facts: ReportFacts) -> list[Advice]:
    """All suggestions, the most promising first."""
    return [advice for rule in RULES for advice in rule(facts)]


def _few_shot(facts: ReportFacts) -> Iterator[Advice]:
    for main, gain in _main(facts, "few_shot"):
        if gain["word"] == "better":
            return
        because = (
            f"with examples in the prompt the base does as well: {main['name']} {_told(gain, main)} for the tuned model"
        )
        yield Advice(
            "use the base with examples in its prompt, which costs no training, or bring more rows", because, "scores"
        )


def _suites(facts: ReportFacts) -> Iterator[Advice]:
    for suite in facts.suites:
        for metric in suite["comparison"]["metrics"]:
            loss = metric["differences"].get("base")
            if loss is not None and loss["word"] == "worse":
                because = f"{metric['name']} is worse than the base's by {_told(loss, metric)}"
                do = REMEDIES.get(
                    suite["name"], "look at its rows in the report, and add training rows that show what is wanted"
                )
                yield Advice(do, because, suite["name"])
                break


def _cut_short(facts: ReportFacts) -> Iterator[Advice]:
    for curve in facts.curves:
        points = curve.validation
        if len(points) > 1 and curve.chosen == points[-1][0] and points[-1][1] < (1 - STILL_FALLING) * points[-2][1]:
            because = f"{_of(curve)}validation loss was still falling at the last step ({points[-2][1]:.3g} to {points[-1][1]:.3g})"
            yield Advice("train longer: twice train.epochs, or of train.steps", because, "training")


def _too_long(facts: ReportFacts) -> Iterator[Advice]:
    for curve in facts.curves:
        if not curve.train or curve.chosen is None:
            continue
        last = max(step for step, _ in curve.train)
        if curve.turned is not None and curve.chosen < EARLY * last:
            because = f"{_of(curve)}the best weights are those of step {curve.chosen:,} of {last:,}; from there on rows were learnt by heart"
            yield Advice("more rows help most; else train.dropout, a smaller rank or fewer steps", because, "training")


def _broken(facts: ReportFacts) -> Iterator[Advice]:
    flips = facts.comparison["flips"]
    if flips and flips["worse_count"] >= BROKEN * facts.comparison["rows"]:
        because = f"{flips['worse_count']:,} of {facts.comparison['rows']:,} test rows got worse by {flips['metric']}"
        yield Advice("read them, and add training rows of their kind", because, "flips")


def _unstopped(facts: ReportFacts) -> Iterator[Advice]:
    for metric in facts.comparison["metrics"]:
        score = metric["scores"].get(facts.comparison["subject"])
        if metric["name"] == "stop_rate" and score is not None and score["value"] < STOPS:
            because = f"only {score_text(score['value'], True)} of the answers ended by themselves"
            yield Advice(
                "raise evaluate.max_new_tokens, or look for training answers without an end", because, "scores"
            )


def _undecided(facts: ReportFacts) -> Iterator[Advice]:
    for main, gain in _main(facts, "base"):
        if gain["word"] != "no difference seen":
            return
        rows = gain.get("rows_to_decide")
        because = f"{main['name']} differs from the base's by {_told(gain, main)}, which {facts.comparison['rows']:,} rows do not decide"
        yield Advice(f"measure on about {rows:,} test rows" if rows else "measure on more test rows", because, "scores")


def _data(facts: ReportFacts) -> Iterator[Advice]:
    warned = [finding for finding in facts.data.findings if finding["level"] == "warning" and finding["fix"]]
    for finding in warned[:FINDINGS]:
        yield Advice(finding["fix"], f"{finding['code']}: {finding['message']}", "data")
    left = sum(dropped.rows for dropped in facts.data.dropped)
    if left > LEFT_OUT * (left + facts.data.rows):
        because = f"{left:,} of {left + facts.data.rows:,} rows were left out"
        yield Advice("look whether they were worth keeping: data/dropped.jsonl", because, "data")


def _more(facts: ReportFacts) -> Iterator[Advice]:
    if facts.curves and all(curve.turned is None for curve in facts.curves) and facts.data.parts.get("train"):
        because = f"{facts.data.parts['train']:,} training rows, and no sign yet that they were learnt by heart"
        yield Advice("sartor data curve RECIPE says what twice the rows would bring", because, "training")


RULES: tuple[Callable[[ReportFacts], Iterator[Advice]], ...] = (
    _suites,
    _few_shot,
    _cut_short,
    _too_long,
    _broken,
    _unstopped,
    _undecided,
    _data,
    _more,
)
"""The most promising first."""


def _main(facts: ReportFacts, other: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The main metric and its difference to another model, where there are such."""
    for metric in facts.comparison["metrics"][:1]:
        if other in metric["differences"]:
            yield metric, metric["differences"][other]


def _told(difference: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    value, low, high = (difference_text(difference[key], metric["share"]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _of(curve: Curve) -> str:
    return f"{curve.name}: " if curve.name else ""
