"""A judge that scores each answer by rubrics: accuracy, helpfulness, tone, or your own.

    judge: [{rubric: {model: judge, endpoint: "https://host/v1", key: JUDGE_KEY, rubrics: [accuracy, tone.md]}}]

Each rubric is a question of its own, so that a good tone does not lift accuracy. What could not be read after `tries`, or where the
judge would not tell, has no score; it is counted and shown. With `gold`, scores by people of some of the answers, the report says
how far judge and people agree, and judge_NAME_calibrated estimates what people would have given on all rows
(evaluate/prediction_powered.py). What the judge is told is in answers/judge-rubric/prompts.json of the run, with its hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.evaluate import prediction_powered
from sartor.evaluate.judges import _gold
from sartor.evaluate.judges._answers import bare, blocks, drawn
from sartor.evaluate.judges._asking import (
    Judge,
    Judging,
    Said,
    check,
    cost_cells,
    counted,
    favours,
    kept,
    reason_of,
    write_prompts,
)
from sartor.evaluate.judges._rubrics import OWN, Rubric, is_file, load
from sartor.evaluate.judges._tables import COSTS, UNSCORED, agreement_table, powered_table, trust, unreadable
from sartor.evaluate.suites import Ground, Suite
from sartor.events import Noted, Progressed
from sartor.generate.replies import number
from sartor.metrics._mean import ratio
from sartor.metrics._reasons import short
from sartor.protocols import Chart, Outcome, Table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sartor.evaluate.suites import Emit, Subject
    from sartor.protocols import Metric

METRICS = ("judge_*",)
SHOWN = 10
"""Answers with the lowest scores in a table."""


class Options(Judging):
    """Which model scores answers by which rubrics."""

    rubrics: tuple[str, ...] = OWN
    """accuracy, helpfulness, tone, or files of your own: YAML with name, scale and instruction, or plain text."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Implements `Metric`: the mean score of the answers that were scored. Statistics per row: (score, 1), or (0, 0)."""

    rubric: Rubric
    options: Options
    gold: _gold.Scores | None
    higher_is_better: bool = True
    needs: str = "prediction"

    @property
    def name(self) -> str:
        """With the rubric's name."""
        return f"judge_{self.rubric.name}"

    @property
    def scale(self) -> tuple[float, float]:
        """The rubric's."""
        return self.rubric.low, self.rubric.high

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2]"""
        scores = self.scores(outcomes)
        told = np.isfinite(scores)
        return np.stack([np.where(told, scores, 0.0), told], axis=1).astype(np.float64)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number where nothing was scored."""
        return ratio(sums[..., 0], sums[..., 1])

    def scores(self, outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
        """[n] of the judge; not-a-number where there is none."""
        given = [_said(outcome, self.rubric)["value"] for outcome in outcomes]
        return np.array([np.nan if value is None else value for value in given], np.float64)

    def people(self, outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
        """[n] of people; not-a-number where nobody scored the answer."""
        found = [
            None if self.gold is None else self.gold.of(outcome, outcome.columns["model"], self.rubric.name)
            for outcome in outcomes
        ]
        return np.array([np.nan if value is None else value for value in found], np.float64)

    def details(self, outcomes: Sequence[Outcome], confidence: float) -> tuple[Table, ...]:
        """What was asked and what it cost; agreement with people; the lowest scores."""
        return (
            *self._asked(outcomes),
            *self._agreement(outcomes, confidence),
            *self._lowest(outcomes),
        )

    def _asked(self, outcomes: Sequence[Outcome]) -> tuple[Table, ...]:
        """Of all rubrics together, so that it is one table."""
        names = list(outcomes[0].columns["judge"]) if outcomes else []
        lines = []
        for name in names:
            given = [outcome.columns["judge"][name] for outcome in outcomes]
            lines.append((name, *counted(given), *cost_cells(given, self.options.price)))
        columns = ("rubric", "answers", "scored", "judge abstained", "not readable", "asked again", *COSTS)
        return (Table("What the judge was asked", columns, tuple(lines), UNSCORED),)

    def _agreement(self, outcomes: Sequence[Outcome], confidence: float) -> tuple[Table, ...]:
        judge, people = self.scores(outcomes), self.people(outcomes)
        both = np.isfinite(judge) & np.isfinite(people)
        if not both.any():
            return ()
        found = _gold.graded(judge[both], people[both], self.rubric.low, self.rubric.high, confidence)
        return (
            agreement_table(f"{self.name}: agreement with people", found),
            powered_table(f"{self.name}: judge and people together", judge, people, confidence),
        )

    def _lowest(self, outcomes: Sequence[Outcome]) -> tuple[Table, ...]:
        given = [(said["value"], outcome, said) for outcome in outcomes if (said := _said(outcome, self.rubric))]
        told = sorted((each for each in given if each[0] is not None), key=lambda each: (each[0], each[1].id))
        lines = tuple(
            (outcome.id, value, short(said["reason"]), short(outcome.prediction or ""))
            for value, outcome, said in told[:SHOWN]
        )
        columns = ("row", "score", "what the judge says", "the answer")
        return (Table(f"{self.name}: the lowest scores", columns, lines),) if lines else ()


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Implements `Metric`: the mean that people would give, from their scores and the judge's."""

    of: Scored
    higher_is_better: bool = True
    needs: str = "prediction"

    @property
    def name(self) -> str:
        """With the rubric's name."""
        return f"{self.of.name}_calibrated"

    @property
    def scale(self) -> tuple[float, float]:
        """The rubric's."""
        return self.of.scale

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 8]"""
        return prediction_powered.units(self.of.scores(outcomes), self.of.people(outcomes))

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 8] -> [...]; not a number where people scored nothing."""
        return prediction_powered.estimate(sums)


@dataclass(frozen=True, slots=True)
class Rubrics:
    """Implements `Suite`."""

    options: Options
    rubrics: Sequence[Rubric]
    ground: Ground
    places: Sequence[int]
    """Test rows that are judged."""
    gold: _gold.Scores | None
    speaks: bool = True

    @property
    def title(self) -> str:
        """Of its section."""
        return "By a judge"

    @property
    def why(self) -> str:
        """What is measured."""
        names = ", ".join(f"{each.name} ({each.low} to {each.high})" for each in self.rubrics)
        told = f"Answers to test rows, scored by {self.options.model} for {names}"
        if len(self.places) < len(self.ground.test):
            told += f"; {len(self.places):,} of {len(self.ground.test):,} rows"
        return " ".join(filter(None, [f"{told}.", favours(self.options, [self.ground.base]), trust(self.gold)]))

    @property
    def metrics(self) -> Sequence[Metric]:
        """One for each rubric, and one more where people scored answers too."""
        found: list[Metric] = []
        for rubric in self.rubrics:
            scored = Scored(rubric, self.options, self.gold)
            found += [scored] if self.gold is None else [scored, Calibrated(scored)]
        return found

    def __len__(self) -> int:
        """Rows."""
        return len(self.places)

    def measure(self, model: Subject, units: Sequence[int]) -> Iterator[Outcome]:
        """One outcome for each row."""
        return self.judged(model.name, model.outcomes, units, model.folder, model.emit)

    def judged(
        self, name: str, given: Sequence[Outcome], units: Sequence[int], folder: Path | None, emit: Emit
    ) -> Iterator[Outcome]:
        """The outcome of each row with columns.judge: what was said of it by rubric. `given` are all of the model's."""
        with kept(folder) as folder:
            write_prompts(folder, self.options, [rubric.json() for rubric in self.rubrics])
            judge, failed, done = Judge(self.options, self.ground, folder), 0, 0
            for block in blocks(units):
                outcomes = [given[self.places[unit]] for unit in block]
                said = {rubric.name: self._said(rubric, judge, outcomes) for rubric in self.rubrics}
                for place, outcome in enumerate(outcomes):
                    found = {rubric: scores[place] for rubric, scores in said.items()}
                    failed += sum(each["state"] == "unreadable" for each in found.values())
                    yield bare(outcome, {"model": name, "judge": found})
                done += len(block)
                emit(Progressed(f"judging {name}", done, len(units)))
            if failed:
                emit(Noted("warning", "E174", unreadable(failed, len(units) * len(self.rubrics), self.options)))

    def charts(self, outcomes: Mapping[str, Sequence[Outcome]]) -> tuple[Chart, ...]:
        """The share of each score; and judge against people."""
        return tuple(chart for rubric in self.rubrics for chart in self._charts(rubric, outcomes))

    def _said(self, rubric: Rubric, judge: Judge, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
        questions = [rubric.question(each.prompt, each.prediction or "", each.reference) for each in outcomes]

        def read(body: dict[str, Any]) -> Said | None:
            if "score" not in body:
                return None
            value = number(body["score"], rubric.low, rubric.high)
            return Said(value, reason_of(body)) if value is not None or body["score"] is None else None

        return [each.json() for each in judge.ask(questions, rubric.form, read)]

    def _charts(self, rubric: Rubric, outcomes: Mapping[str, Sequence[Outcome]]) -> Iterator[Chart]:
        scored, series, points = Scored(rubric, self.options, self.gold), {}, {}
        for model, given in outcomes.items():
            scores, people = scored.scores(given), scored.people(given)
            told = Counter(np.rint(scores[np.isfinite(scores)]).astype(int).tolist())
            if told:
                series[model] = [
                    (float(at), 100 * told[at] / told.total()) for at in range(rubric.low, rubric.high + 1)
                ]
            both = np.isfinite(scores) & np.isfinite(people)
            if both.any():
                points[model] = sorted(zip(people[both].tolist(), scores[both].tolist(), strict=True))
        if series:
            yield Chart(f"Scores for {rubric.name}", "score", "% of answers", series)
        if points:
            yield Chart(
                f"{rubric.name}: people and judge", "score by people", "by the judge", points, "points", diagonal=True
            )


def files(options: Options) -> list[str]:
    """What is read."""
    return [*filter(is_file, options.rubrics), *([] if options.gold is None else [options.gold])]


def suite(options: Options, ground: Ground) -> Suite:
    """Read rubrics and gold, and see whether the judge is there.

    Raises RecipeError E170 to E173, DataError E172, and ModelError for a judge that cannot be asked.
    """
    rubrics = load(options.rubrics, ground.root)
    gold = None if options.gold is None else _gold.scores(options.gold, ground.root, [each.name for each in rubrics])
    check(options, ground)
    return Rubrics(options, rubrics, ground, drawn(ground, options.rows, _gold.named_rows(gold)), gold)


def _said(outcome: Outcome, rubric: Rubric) -> dict[str, Any]:
    found: dict[str, Any] = outcome.columns["judge"][rubric.name]
    return found
