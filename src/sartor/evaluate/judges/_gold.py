"""Judgements by people: a score of one answer, or which of two is better.

    {"id": "tickets.jsonl:7", "model": "tuned", "accuracy": 4}
    {"prompt": "Where is my parcel?", "answer": "At the depot.", "score": 2, "rater": "ada"}
    {"id": "tickets.jsonl:7", "model_a": "tuned", "model_b": "base", "winner": "model_a"}
    {"id": "tickets.jsonl:9", "winner": "tie"}

A record names its row by `id` or by the whole `prompt`, and whose answer it is about by `model` or by the `answer` itself. Several
records of one answer are several people; the median of their scores counts, or what most of them prefer.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sartor.data.annotate.agreement import (
    Coefficient,
    Floats,
    alpha,
    coefficient,
    cohen_kappa,
    coincidence_units,
    confusion_units,
    correlation,
    correlation_units,
    ordinal_distance,
    percent,
    percent_units,
    weighted_kappa,
)
from sartor.data.reading import expand, records
from sartor.errors import DataError, Problem, raise_errors
from sartor.protocols import Outcome

FIRST, SECOND, TIE = "model_a", "model_b", "tie"
Row = tuple[str, str]
"""("id", id) or ("prompt", prompt)"""
FIX = 'such as {"id": "...", "model": "tuned", "accuracy": 4} or {"id": "...", "winner": "tuned"}'


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores by people: for each row what was said of whose answer."""

    found: Mapping[Row, Sequence[tuple[str | None, str | None, Mapping[str, float]]]]
    """(model, answer, rubric -> score)"""

    def __len__(self) -> int:
        """Records."""
        return sum(map(len, self.found.values()))

    def of(self, outcome: Outcome, model: str, rubric: str) -> float | None:
        """The median of what people gave this answer; None where nobody scored it."""
        given = [
            scores[rubric]
            for key in _keys(outcome)
            for who, answer, scores in self.found.get(key, ())
            if rubric in scores and (who is None or who == model) and (answer is None or answer == _said(outcome))
        ]
        return statistics.median(given) if given else None


@dataclass(frozen=True, slots=True)
class Preferences:
    """Which of two answers people prefer."""

    found: Mapping[Row, Sequence[tuple[str | None, str | None, str]]]
    """(model_a, model_b, winner); where no models are named the winner is named itself"""

    def __len__(self) -> int:
        """Records."""
        return sum(map(len, self.found.values()))

    @property
    def unnamed(self) -> int:
        """Records that do not say which models they compare."""
        return sum(first is None for records in self.found.values() for first, *_ in records)

    def of(self, outcome: Outcome, model: str, other: str, *, main: bool) -> float | None:
        """1 where most people prefer `model`, 0 for the other, 1/2 for a tie; None where nobody compared them.

        Records that name no models are of the `main` pair alone.
        """
        votes: Counter[float] = Counter()
        for key in _keys(outcome):
            for first, second, winner in self.found.get(key, ()):
                if not main if first is None else {first, second} != {model, other}:
                    continue
                named = {FIRST: first, SECOND: second}.get(winner, winner)
                if named in (model, other, TIE):
                    votes[0.5 if named == TIE else float(named == model)] += 1
        if not votes:
            return None
        most = max(votes.values())
        best = [value for value, count in votes.items() if count == most]
        return best[0] if len(best) == 1 else 0.5


def scores(path: str, root: Path, rubrics: Sequence[str]) -> Scores:
    """Read a file of scores. Raises DataError E172 with every record that is none."""
    found: dict[Row, list[tuple[str | None, str | None, Mapping[str, float]]]] = defaultdict(list)
    problems: list[Problem] = []
    for record, line in _records(path, root, problems):
        row, model, answer = _row(record), _text(record, "model"), _text(record, "answer")
        given = {name: value for name in rubrics if (value := _number(record.get(name))) is not None}
        if len(rubrics) == 1 and not given and (value := _number(record.get("score"))) is not None:
            given = {rubrics[0]: value}
        if row is None:
            problems.append(_fault("neither id nor prompt says which row this is about", path, line))
        elif not given:
            problems.append(_fault(f"there is no score for {' or '.join(rubrics)}", path, line))
        elif model is None and answer is None:
            problems.append(_fault("neither model nor answer says whose answer this is about", path, line))
        else:
            found[row].append((model, None if answer is None else answer.strip(), given))
    raise_errors(DataError, problems)
    return Scores(dict(found))


def preferences(path: str, root: Path) -> Preferences:
    """Read a file of comparisons. Raises DataError E172 with every record that is none."""
    found: dict[Row, list[tuple[str | None, str | None, str]]] = defaultdict(list)
    problems: list[Problem] = []
    for record, line in _records(path, root, problems):
        row, winner = _row(record), _text(record, "winner")
        first, second = _text(record, FIRST), _text(record, SECOND)
        if row is None:
            problems.append(_fault("neither id nor prompt says which row this is about", path, line))
        elif winner is None:
            problems.append(_fault("no winner: the name of a model, or tie", path, line))
        elif (first is None) != (second is None) or (first is None and winner in (FIRST, SECOND)):
            problems.append(_fault("model_a and model_b have to be named both", path, line))
        elif first is not None and winner not in (first, second, FIRST, SECOND, TIE):
            problems.append(_fault(f'the winner "{winner}" is neither of the two nor tie', path, line))
        else:
            found[row].append((first, second, winner))
    raise_errors(DataError, problems)
    return Preferences(dict(found))


def named_rows(gold: Scores | Preferences | None) -> frozenset[Row]:
    """The rows that people judged."""
    return frozenset() if gold is None else frozenset(gold.found)


def graded(judge: Floats, people: Floats, low: int, high: int, confidence: float) -> list[Coefficient]:
    """How far scores of a judge agree with those of people on [n] rows, each from `low` to `high`."""
    whole = np.clip(np.rint(np.stack([judge, people], axis=1)), low, high).astype(np.int64) - low
    labels, who = high - low + 1, ("judge", "people")
    units = confusion_units(whole, labels)

    def measured(name: str, given: Any, combine: Any) -> Coefficient:
        return coefficient(name, who, given, combine, confidence=confidence)

    return [
        measured("equal scores", percent_units(_counts(whole, labels)), percent),
        measured("Cohen's kappa, quadratic weights", units, weighted_kappa),
        measured("Krippendorff's alpha, ordinal", coincidence_units(whole, labels), _ordinal),
        measured("Spearman's correlation", correlation_units(_ranks(judge), _ranks(people)), correlation),
        measured("Pearson's correlation", correlation_units(judge, people), correlation),
    ]


def preferred(judge: Floats, people: Floats, confidence: float) -> list[Coefficient]:
    """How far verdicts agree on [n] rows: 0 lost, 1/2 tie, 1 won."""
    whole = np.rint(2 * np.stack([judge, people], axis=1)).astype(np.int64)
    who = ("judge", "people")

    def measured(name: str, given: Any, combine: Any) -> Coefficient:
        return coefficient(name, who, given, combine, confidence=confidence)

    return [
        measured("equal verdicts", percent_units(_counts(whole, 3)), percent),
        measured("Cohen's kappa", confusion_units(whole, 3), cohen_kappa),
        measured("Krippendorff's alpha, ordinal", coincidence_units(whole, 3), _ordinal),
    ]


def _ordinal(sums: Floats) -> Floats:
    return alpha(sums, ordinal_distance)


def _counts(ratings: np.ndarray, labels: int) -> Floats:
    counts = np.zeros((len(ratings), labels))
    for column in ratings.T:
        counts[np.arange(len(ratings)), column] += 1
    return counts


def _ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    found: Floats = rankdata(values)
    return found


def _records(path: str, root: Path, problems: list[Problem]) -> Iterator[tuple[Mapping[str, Any], int]]:
    count = 0
    for file in expand(path, root):
        for item in records(file):
            count += 1
            if isinstance(item, Problem):
                problems.append(item)
            else:
                yield item.value, item.line
    if not count:
        problems.append(Problem("E172", "there are no judgements by people", file=path, fix=FIX))


def _row(record: Mapping[str, Any]) -> Row | None:
    identity, prompt = _text(record, "id"), _text(record, "prompt")
    if identity is not None:
        return "id", identity
    return None if prompt is None else ("prompt", prompt.strip())


def names(identity: str, columns: Mapping[str, Any], prompt: str) -> list[Row]:
    """How people may call a row: by its id, by what stands in its column `id`, by its prompt."""
    own = columns.get("id")
    called = [identity, *([str(own)] if isinstance(own, str | int) and str(own) != identity else [])]
    return [*(("id", name) for name in called), ("prompt", prompt.strip())]


def _keys(outcome: Outcome) -> list[Row]:
    return names(outcome.id, outcome.columns, outcome.prompt)


def _said(outcome: Outcome) -> str:
    return (outcome.prediction or "").strip()


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    return value if isinstance(value, str) and value else str(value) if isinstance(value, int) else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _fault(what: str, path: str, line: int) -> Problem:
    return Problem("E172", what, file=path, line=line, fix=FIX)
