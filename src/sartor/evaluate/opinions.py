"""What the ratings of people say of two models: win rates or means with intervals, agreement, and the rows it still takes.

A row counts once however many raters answered it: its value is the mean over its raters. Rows are drawn again whole, with all
their ratings, so intervals speak of other rows judged by these raters, and raters who say the same do not narrow them
(cluster bootstrap: Davison and Hinkley 1997, section 3.8). Where every row is simply won, lost or tied, as with one rater,
closed forms take the place of the bootstrap: Wilson without ties, else Bonett and Price. A tie, and "both bad", is half a win.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sartor.data.annotate.agreement import agreement
from sartor.data.annotate.agreement import table as ratings_of
from sartor.data.annotate.marks import Mark
from sartor.evaluate import intervals
from sartor.evaluate.asking import BAD, OURS, SCALE, TIE, A, Asked, Unit
from sartor.evaluate.compare import compare
from sartor.evaluate.corrections import adjusted
from sartor.evaluate.numbers import difference_text, range_text, score_text
from sartor.metrics._mean import Mean
from sartor.protocols import Chart, Outcome

Answers = Mapping[str, Mapping[str, Mark]]
"""Rater -> key of a unit -> the mark that holds."""

HUMAN = "human"
"""The column of an outcome that holds what people said."""
FAIR = 0.6
"""The win rate that is asked about before anybody has rated."""
STEP = 0.5
"""The same on a scale: half a step."""
MOST = 100_000
"""Rows beyond which a difference is as good as none."""
LEAST = 10
"""Rows from which their spread can be told."""
COEFFICIENTS = {
    "percent": "raters who say the same",
    "cohen_kappa": "Cohen's kappa",
    "fleiss_kappa": "Fleiss' kappa",
    "krippendorff_alpha_nominal": "Krippendorff's alpha",
    "krippendorff_alpha_ordinal": "Krippendorff's alpha, ordinal",
}
AGREEMENT = "How far raters agree"
ALL = "all raters"
VERDICTS = ("tuned", "other", TIE, BAD)


@dataclass(slots=True)
class _Votes:
    """What was said about one question. Values are those of the tuned model and of the other."""

    rows: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    """Row -> rater -> (other, tuned)."""
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    """Rater -> unit -> label, of which agreement is measured."""
    left: Counter[str] = field(default_factory=Counter)
    """Rater -> pairs of which the answer on the left was chosen."""
    waiting: int = 0
    """Ratings on a scale whose counterpart, the other answer to the row, this rater has not given."""

    def values(self) -> dict[str, np.ndarray]:
        """Row -> [2] means over its raters: other, tuned."""
        return {row: np.mean(list(given.values()), axis=0) for row, given in self.rows.items()}


def told(asked: Asked, answers: Answers, *, name: str, confidence: float, resamples: int) -> dict[str, Any] | None:
    """What a report shows, in the form of a suite; None where nothing can be told yet."""
    plan = asked.plan
    votes = {question: _votes(asked, question, answers) for question in plan.questions}
    votes = {question: found for question, found in votes.items() if found.rows}
    if not votes:
        return None
    comparison = _compared(asked, votes, confidence, resamples)
    outlooks = [
        _outlook(question, found, metric, asked, confidence)
        for (question, found), metric in zip(votes.items(), comparison["metrics"], strict=True)
    ]
    _corrected(comparison, outlooks, plan.against)
    comparison["details"] = [
        *([_raters_of_pairs(votes, confidence)] if _pairs(asked) else [_raters_of_scale(votes)]),
        *_agreement(asked, votes, confidence),
        _rows_needed(outlooks, asked),
    ]
    return {
        "name": name,
        "title": "Which answer people prefer" if _pairs(asked) else "How people rate the answers",
        "why": _why(asked, votes, answers),
        "comparison": comparison,
        "charts": [] if _pairs(asked) else [_spread(asked, votes).json()],
        "plan": plan.json(),
        "outlook": outlooks,
    }


def before(asked: Asked, confidence: float) -> str:
    """How many rows decide, said before anybody has rated."""
    if _pairs(asked):
        rows = intervals.needed(FAIR - 0.5, math.sqrt(FAIR * (1 - FAIR)), confidence)
        effect = f"a win rate of {FAIR:.0%}"
        made = "one rating each and no ties; more raters and ties need fewer"
    else:
        rows = intervals.needed(STEP, 1.0, confidence)
        effect = f"a difference of {STEP:g} steps"
        made = "differences that spread by one step from row to row"
    return f"{rows:,} rows decide {effect} four times out of five ({made}); {asked.rows:,} are asked"


def _outlook(
    question: str, votes: _Votes, metric: Mapping[str, Any], asked: Asked, confidence: float
) -> dict[str, Any]:
    """How many rows it still takes to decide a question: for the difference that is seen, and for a fair one."""
    values = np.array(list(votes.values().values()))
    pairs = _pairs(asked)
    seen = values[:, OURS] if pairs else values[:, OURS] - values[:, 0]
    gap = abs(float(seen.mean()) - (0.5 if pairs else 0.0))
    spread = float(seen.std(ddof=1)) if len(seen) > 1 else math.nan
    fair = FAIR - 0.5 if pairs else STEP
    word = (metric["differences"].get(asked.plan.against) or {}).get("word")
    return {
        "question": question,
        "rows": len(seen),
        "decided": word if word in ("better", "worse") else None,
        "more_for_seen": _more(gap, spread, len(seen), confidence),
        "more_for_fair": _more(fair, spread, len(seen), confidence),
        "fair": FAIR if pairs else STEP,
    }


def _more(gap: float, spread: float, rows: int, confidence: float) -> int | None:
    """Rows beyond those there are; None where that cannot be told yet, or is beyond all measure."""
    if rows < LEAST or spread == 0 or gap * math.sqrt(MOST) < spread:
        return None
    return max(0, intervals.needed(gap, spread, confidence) - rows)


def _pairs(asked: Asked) -> bool:
    return asked.plan.kind == "pairwise"


def _votes(asked: Asked, question: str, answers: Answers) -> _Votes:
    here = [unit for unit in asked.units if unit.question == question]
    found = _Votes()
    for rater, given in answers.items():
        marks = {unit.item.key: (unit, given[unit.item.key]) for unit in here if unit.item.key in given}
        if not marks:
            continue
        add = _add_pairs if _pairs(asked) else _add_scale
        add(found, rater, marks)
    return found


def _add_pairs(found: _Votes, rater: str, marks: Mapping[str, tuple[Unit, Mark]]) -> None:
    labels = found.labels.setdefault(rater, {})
    for key, (unit, mark) in marks.items():
        label = verdict(mark)
        ours = {"tuned": 1.0, "other": 0.0}.get(label, 0.5)
        labels[key] = label
        found.rows.setdefault(unit.row, {})[rater] = (1 - ours, ours)
        found.left[rater] += mark.label == A


def _add_scale(found: _Votes, rater: str, marks: Mapping[str, tuple[Unit, Mark]]) -> None:
    scores: dict[str, dict[str, float]] = {}
    labels = found.labels.setdefault(rater, {})
    for key, (unit, mark) in marks.items():
        labels[key] = str(mark.label)
        for model in unit.models:
            scores.setdefault(unit.row, {})[model] = 1.0 + SCALE.index(str(mark.label))
    for row, given in scores.items():
        if len(given) < 2:
            found.waiting += 1
            continue
        other = next(model for model in given if model != "tuned")
        found.rows.setdefault(row, {})[rater] = (given[other], given["tuned"])


def verdict(mark: Mark) -> str:
    """tuned, other, tie or both bad: what a choice between A and B means."""
    if mark.label in (TIE, BAD):
        return mark.label
    assert mark.order is not None
    chosen = mark.order[0 if mark.label == A else 1]
    return "tuned" if chosen == OURS else "other"


def _compared(asked: Asked, votes: Mapping[str, _Votes], confidence: float, resamples: int) -> dict[str, Any]:
    """Each question on the rows that were answered, in the form of one comparison."""
    found = [_question(asked, question, given, confidence, resamples) for question, given in votes.items()]
    whole = max(found, key=lambda one: int(one["rows"]))
    return {**whole, "metrics": [metric for one in found for metric in one["metrics"]], "flips": None}


def _question(asked: Asked, question: str, votes: _Votes, confidence: float, resamples: int) -> dict[str, Any]:
    values = votes.values()
    rows = [row for row in dict.fromkeys(unit.row for unit in asked.units) if row in values]
    outcomes = {
        model: [Outcome(row, "", "", "", columns={HUMAN: float(values[row][side])}) for row in rows]
        for side, model in ((0, asked.plan.against), (OURS, "tuned"))
    }
    metric = Mean(f"human_{question}", lambda outcome: float(outcome.columns[HUMAN]))
    found = compare(outcomes, [metric], confidence=confidence, resamples=resamples, seed=asked.plan.seed).json()
    (told,) = found["metrics"]
    told["detectable"] = None
    if _pairs(asked):
        told["share"] = True
        _closed(told, votes, asked.plan.against, confidence)
    return found


def _closed(metric: dict[str, Any], votes: _Votes, against: str, confidence: float) -> None:
    """Where every row is won, lost or tied, put the closed form in the place of the bootstrap."""
    ours = np.array([value[OURS] for value in votes.values().values()])
    if not np.isin(ours, (0.0, 0.5, 1.0)).all() or not (ours == 0.5).any():
        return
    wins, losses = int((ours == 1).sum()), int((ours == 0).sum())
    low, high = intervals.half_ties(wins, losses, len(ours), confidence)
    metric["scores"]["tuned"] |= {"low": low, "high": high}
    metric["scores"][against] |= {"low": 1 - high, "high": 1 - low}
    word = "better" if low > 0.5 else "worse" if high < 0.5 else "no difference seen"
    metric["differences"][against] |= {
        "low": 2 * low - 1,
        "high": 2 * high - 1,
        "p": intervals.mcnemar(wins, losses),
        "test": "McNemar",
        "word": word,
    }


def _corrected(comparison: dict[str, Any], outlooks: Sequence[Mapping[str, Any]], against: str) -> None:
    """Allow for the number of questions, and say beside each how many rows it still takes."""
    gains = [metric["differences"][against] for metric in comparison["metrics"]]
    chances = adjusted([gain["p"] for gain in gains], comparison["correction"])
    for gain, chance, outlook in zip(gains, chances, outlooks, strict=True):
        survives = outlook["decided"] is None or chance <= 1 - comparison["confidence"]
        gain |= {"adjusted": chance, "survives": survives}
        gain["rows_to_decide"] = None if outlook["decided"] else outlook["more_for_seen"]
    comparison["comparisons"] = len(gains)


def _why(asked: Asked, votes: Mapping[str, _Votes], answers: Answers) -> str:
    raters = sorted({rater for found in votes.values() for rater in found.labels})
    given = sum(len(each) for found in votes.values() for each in found.labels.values())
    who = "one person" if len(raters) == 1 else f"{len(raters)} people"
    what = "which of two answers is better" if _pairs(asked) else "how good each answer is"
    text = f"{who.capitalize()} said {what}, {given:,} times in all, without being told which model wrote it"
    if asked.same and _pairs(asked):
        text += (
            f"; {len(asked.same):,} of {asked.drawn:,} rows have the same answer from both models and were not asked"
        )
    waiting = sum(found.waiting for found in votes.values())
    if waiting:
        text += f"; {waiting:,} ratings wait for the other answer to their row and are not counted"
    keys = {unit.item.key for unit in asked.units}
    strange = sum(key not in keys for marks in answers.values() for key in marks)
    if strange:
        text += f"; {strange:,} ratings are of answers that have changed since, or of rows not asked now, and are not counted"
    return text + ". Rows count once however many people rated them"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> dict[str, Any]:
    return {
        "metric": "",
        "title": title,
        "columns": list(columns),
        "models": {ALL: {"rows": [list(row) for row in rows], "note": note}},
    }


def _raters_of_pairs(votes: Mapping[str, _Votes], confidence: float) -> dict[str, Any]:
    rows: list[list[Any]] = []
    for question, found in votes.items():
        for rater, labels in found.labels.items():
            counts = Counter(labels.values())
            total = len(labels)
            wins, losses = counts["tuned"], counts["other"]
            rate = (wins + (total - wins - losses) / 2) / total
            if wins + losses == total:
                bounds = intervals.wilson(wins, total, confidence)
            else:
                bounds = intervals.half_ties(wins, losses, total, confidence)
            told = f"{score_text(rate, share=True)} ({range_text(bounds.low, bounds.high, share=True)})"
            decided = wins + losses
            left = score_text(found.left[rater] / decided, share=True) if decided else "–"
            rows.append([rater, question, total, wins, counts[TIE], counts[BAD], losses, told, left])
    head = (
        "rater",
        "question",
        "rated",
        "tuned better",
        "tie",
        "both bad",
        "other better",
        "win rate",
        "chose the left",
    )
    note = "The left answer is the tuned model's half of the time: a rater far from 50 % there looks at places, not at answers."
    return _table("What each rater said", head, rows, note)


def _raters_of_scale(votes: Mapping[str, _Votes]) -> dict[str, Any]:
    rows: list[list[Any]] = []
    for question, found in votes.items():
        for rater, labels in found.labels.items():
            both = np.array([given[rater] for given in found.rows.values() if rater in given]).reshape(-1, 2)
            other, ours = both.mean(axis=0) if len(both) else (math.nan, math.nan)
            told = [None if math.isnan(x) else score_text(float(x), share=False) for x in (other, ours)]
            gain = None if math.isnan(ours) else difference_text(float(ours - other), share=False)
            rows.append([rater, question, len(labels), len(both), *told, gain])
    head = ("rater", "question", "answers rated", "rows with both", "the other", "tuned", "difference")
    return _table(
        "What each rater said", head, rows, "Raters use a scale differently; differences are taken within each."
    )


def _agreement(asked: Asked, votes: Mapping[str, _Votes], confidence: float) -> Iterator[dict[str, Any]]:
    labels = VERDICTS if _pairs(asked) else SCALE
    rows: list[list[Any]] = []
    for question, found in votes.items():
        names, ratings = ratings_of(found.labels, labels)
        if len(names) < 2 or not ((ratings >= 0).sum(axis=1) >= 2).any():
            continue
        for one in agreement(
            names, ratings, len(labels), ordinal=not _pairs(asked), confidence=confidence, seed=asked.plan.seed
        ):
            share = one.name == "percent"
            value = "undefined" if one.value is None else score_text(one.value, share=share)
            bounds = "" if one.low is None or one.high is None else range_text(one.low, one.high, share=share)
            rows.append([question, COEFFICIENTS[one.name], value, bounds, one.rows, ", ".join(one.between)])
    if rows:
        head = ("question", "measure", "value", f"{100 * confidence:g} % interval", "rows", "between")
        note = "0 is what chance gives, 1 is complete; below 0.4 the raters do not judge the same thing."
        yield _table(AGREEMENT, head, rows, note)


def _rows_needed(outlooks: Sequence[Mapping[str, Any]], asked: Asked) -> dict[str, Any]:
    rows = []
    for one in outlooks:
        decided = "tuned is " + one["decided"] if one["decided"] else "not decided"
        seen = "–" if one["decided"] else _count(one["more_for_seen"])
        rows.append([one["question"], one["rows"], decided, seen, _count(one["more_for_fair"])])
    fair = f"a win rate of {FAIR:.0%}" if _pairs(asked) else f"a difference of {STEP:g}"
    head = ("question", "rows rated", "decided", "more rows, if it is as seen", f"more rows for {fair}")
    note = "Rows that show a difference of this size four times out of five, with ratings that spread as those so far."
    return _table("How many rows it takes", head, rows, note)


def _count(rows: int | None) -> str:
    return "cannot be told" if rows is None else f"{rows:,}"


def _spread(asked: Asked, votes: Mapping[str, _Votes]) -> Chart:
    """Shares of the five steps by model, over all questions and raters."""
    counts: dict[str, Counter[str]] = {asked.plan.against: Counter(), "tuned": Counter()}
    of = {unit.item.key: unit.models for unit in asked.units}
    for found in votes.values():
        for given in found.labels.values():
            for key, label in given.items():
                for model in of[key]:
                    counts[model][label] += 1
    series = {
        model: [(step + 1.0, each[label] / each.total()) for step, label in enumerate(SCALE)]
        for model, each in counts.items()
        if each
    }
    return Chart("How often each step was given", "step, 1 to 5", "share of ratings", series)
