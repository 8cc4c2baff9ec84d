"""How models do on parts of the test rows: by a column of the rows, by the length of the prompt, by topic.

A mean hides who pays for it. Every slice has the scores of all models with intervals and the paired difference to the first model,
and the worst slice is named. Whoever looks at m slices finds a bad one by chance, so the interval of the one that is named is made at
the level 1 - (1 - confidence) / m (Bonferroni), which holds whichever slice turns out worst, and the chances of the
differences are adjusted for each other as those of a comparison are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.data.topics import topics
from sartor.errors import Problem, RecipeError
from sartor.evaluate.compare import Comparison, Score, Test, compare
from sartor.evaluate.corrections import Correction, adjusted
from sartor.protocols import Metric, Outcome

if TYPE_CHECKING:
    from sartor.recipe.schema import Slice

LENGTH, TOPIC, LABEL = "length", "topic", "label"
COMPUTED = (LENGTH, TOPIC, LABEL)
"""What a row need not have a column for; a column of that name comes first."""
PARTS = 4
"""Slices of numbers: as many rows in each."""
FEW_NUMBERS = 8
"""Different numbers up to which each is a slice of its own."""
NO_VALUE, SMALLER, NO_TOPIC = "(none)", "(smaller ones)", "(no topic)"
WORDS = 3
"""Words that name a topic."""


@dataclass(frozen=True, slots=True)
class Part:
    """One slice: every model on some of the rows."""

    field: str
    value: str
    comparison: Comparison

    @property
    def name(self) -> str:
        """As gates call it."""
        return f"{self.field}={self.value}"


@dataclass(frozen=True, slots=True)
class Slices:
    """Every slice of a test, those of one field after the other."""

    parts: tuple[Part, ...]
    confidence: float
    correction: Correction
    left_out: Mapping[str, int]
    """Field -> rows of values so rare that no slice was made of them."""
    alike: tuple[str, ...] = ()
    """Fields by which the rows do not differ."""

    def named(self, wanted: str) -> list[Part]:
        """Those a gate means: `all`, or FIELD=VALUE."""
        return [part for part in self.parts if wanted in ("all", part.name)]

    @property
    def level(self) -> float:
        """Of the interval of whichever slice is the worst."""
        return 1 - (1 - self.confidence) / max(1, len(self.parts))

    def worst(self, metric: str) -> tuple[Part, Score] | None:
        """The slice where the subject's score is worst, with an interval that allows for its having been chosen."""
        found = [
            (part, score)
            for part in self.parts
            if (score := part.comparison.score(metric, part.comparison.subject)) is not None
        ]
        if not found:
            return None
        sign = 1 if found[0][0].comparison.higher_is_better(metric) else -1
        part, _ = min(found, key=lambda each: sign * each[1].value)
        score = part.comparison.score(metric, part.comparison.subject, self.level)
        assert score is not None
        return part, score

    def json(self) -> dict[str, Any]:
        """Everything as a JSON object; the report reads exactly this."""
        if not self.parts:
            return {"fields": [], "count": 0, "left_out": dict(self.left_out), "alike": list(self.alike)}
        first = self.parts[0].comparison
        fields: dict[str, list[dict[str, Any]]] = {}
        for part in self.parts:
            told = part.comparison.json()
            fields.setdefault(part.field, []).append(
                {"value": part.value, "rows": told["rows"], "metrics": told["metrics"]}
            )
        self._correct(fields)
        return {
            "models": list(first.models),
            "subject": first.subject,
            "baseline": first.baseline,
            "called": first.called,
            "confidence": self.confidence,
            "correction": self.correction,
            "count": len(self.parts),
            "fields": [{"field": field, "slices": parts} for field, parts in fields.items()],
            "left_out": dict(self.left_out),
            "alike": list(self.alike),
            "worst": [one for metric in first.metrics if (one := self._worst_json(metric)) is not None],
        }

    def _correct(self, fields: Mapping[str, list[dict[str, Any]]]) -> None:
        """Chances adjusted over all slices and models, metric by metric."""
        every = [part for parts in fields.values() for part in parts]
        for place in range(len(every[0]["metrics"])):
            found = [one for part in every for one in part["metrics"][place]["differences"].values()]
            chances = adjusted([float("nan") if one["p"] is None else one["p"] for one in found], self.correction)
            for one, chance in zip(found, chances, strict=True):
                one["adjusted"] = chance if np.isfinite(chance) else None
                one["survives"] = one["word"] not in ("better", "worse") or not chance > 1 - self.confidence

    def _worst_json(self, metric: str) -> dict[str, Any] | None:
        found = self.worst(metric)
        if found is None:
            return None
        part, score = found
        return {
            "metric": metric,
            "share": part.comparison.is_share(metric),
            "field": part.field,
            "value": part.value,
            "rows": part.comparison.rows,
            "model": part.comparison.subject,
            "score": asdict(score),
            "level": self.level,
        }


def cut(
    outcomes: Mapping[str, Sequence[Outcome]],
    metrics: Sequence[Metric],
    wanted: Sequence[Slice],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    correction: Correction = "holm",
    test: Test = "bootstrap",
    baseline: str | None = None,
    called: Mapping[str, str] | None = None,
) -> Slices:
    """Compare all models on every slice of the rows; keywords as for `compare`.

    Raises RecipeError R152 for a field that no row has.
    """
    rows = list(next(iter(outcomes.values())))
    require(wanted, [row.columns for row in rows])
    by_id = {name: {outcome.id: outcome for outcome in given} for name, given in outcomes.items()}
    parts: list[Part] = []
    left_out: dict[str, int] = {}
    alike: list[str] = []
    for one in wanted:
        groups, rare = _groups(one, rows)
        if len(groups) == 1 and not rare:
            alike.append(one.field)
            continue
        if rare:
            left_out[one.field] = rare
        for value, places in groups.items():
            mine = {name: [known[rows[place].id] for place in places] for name, known in by_id.items()}
            comparison = compare(
                mine, metrics, confidence=confidence, resamples=resamples, seed=seed, correction="none", test=test,
                baseline=baseline, called=called,
            )  # fmt: skip
            parts.append(Part(one.field, value, comparison))
    return Slices(tuple(parts), confidence, correction, left_out, tuple(alike))


def require(wanted: Sequence[Slice], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises RecipeError R152 for fields that none of the rows has; `rows` are their columns."""
    known = {name for columns in rows for name in columns}
    problems = [
        Problem(
            "R152",
            f"no test row has the column {one.field}, by which they are to be cut",
            fix=f"one of {', '.join(sorted(known | set(COMPUTED)))}",
        )
        for one in wanted
        if one.field not in known and one.field not in COMPUTED
    ]
    if problems:
        raise RecipeError(*problems)


def _groups(one: Slice, rows: Sequence[Outcome]) -> tuple[dict[str, list[int]], int]:
    """(value -> places of its rows in the order that is shown, rows that no slice was made of)."""
    values = _values(one.field, rows)
    counts = Counter(values)
    if sum(count < one.least for count in counts.values()) > 1:
        values = [SMALLER if counts[value] < one.least else value for value in values]
    counts = Counter(values)
    shown = sorted((value for value, count in counts.items() if count >= one.least), key=_shown)
    found: dict[str, list[int]] = {value: [] for value in shown}
    for place, value in enumerate(values):
        if value in found:
            found[value].append(place)
    return found, sum(count for count in counts.values()) - sum(map(len, found.values()))


def _given(field: str, rows: Sequence[Outcome]) -> bool:
    return any(field in row.columns for row in rows)


def _values(field: str, rows: Sequence[Outcome]) -> list[str]:
    """[n] the value of each row, as text."""
    if _given(field, rows):
        raw = [row.columns.get(field) for row in rows]
        numbers = [each for each in raw if isinstance(each, int | float) and not isinstance(each, bool)]
        if len(numbers) == len(raw) and len(set(numbers)) > FEW_NUMBERS:
            return _quartiles(np.array(raw, np.float64))
        return [NO_VALUE if each is None or each == "" else _text(each) for each in raw]
    texts = [row.prompt or row.reference for row in rows]
    if field == LENGTH:
        return _quartiles(np.array([len(text) for text in texts], np.float64))
    if field == LABEL:
        return [row.reference for row in rows]
    found = [NO_TOPIC] * len(rows)
    for topic in topics(texts):
        for place in topic.members.tolist():
            found[place] = ", ".join(topic.words[:WORDS])
    return found


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quartiles(values: np.ndarray) -> list[str]:
    """[n] numbers in at most four parts of as many rows, each called by its smallest and largest number."""
    edges = np.unique(np.quantile(values, np.arange(1, PARTS) / PARTS, method="lower"))
    place = np.searchsorted(edges, values, side="left")
    names = {
        int(part): f"{values[place == part].min():g} to {values[place == part].max():g}" for part in np.unique(place)
    }
    return [names[int(part)] for part in place]


def _shown(value: str) -> tuple[int, float, str]:
    """Numbers by size, everything else by name, what was gathered last."""
    if value in (SMALLER, NO_TOPIC, NO_VALUE):
        return (2, 0.0, value)
    try:
        return (0, float(value.partition(" to ")[0]), value)
    except ValueError:
        return (1, 0.0, value)


def sentences(told: Mapping[str, Any], score: Callable[[float, bool], str]) -> Iterator[str]:
    """The worst slice of each metric in words; `told` is `Slices.json()`, `score` writes a score."""
    for one in told.get("worst", ()):
        value, low, high = (score(one["score"][name], one["share"]) for name in ("value", "low", "high"))
        yield (
            f"worst of {told['count']} slices in {one['metric']}: {one['field']}={one['value']} ({one['rows']:,} rows) "
            f"with {value} [{low}, {high}; corrected for {told['count']} slices]"
        )
