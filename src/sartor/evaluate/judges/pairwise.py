"""A judge that says which of two answers to the same question is better: those of the tuned model against those of its base.

    judge: [{pairwise: {model: judge, endpoint: "https://host/v1", key: JUDGE_KEY}}]

Every pair is shown in both orders; equal answers are a tie that nobody is asked about. A win counts where both orders say so; where they differ the pair is a tie, because the place of
an answer decided and not the answer. A pair with an order that the judge did not decide, or that could not be read, is not counted.
win_rate is the share of wins and half the ties; win_rate_length_controlled what it would be for answers of equal length
(`_length.py`); win_rate_calibrated, with `gold`, what people would say of all pairs (evaluate/prediction_powered.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from sartor.evaluate import prediction_powered
from sartor.evaluate.intervals import wilson
from sartor.evaluate.judges import _gold, _length
from sartor.evaluate.judges._answers import bare, blocks, drawn
from sartor.evaluate.judges._asking import (
    Judge,
    Judgement,
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
from sartor.evaluate.judges._rubrics import ABSTAIN, MATERIAL, questioned, schema, written
from sartor.evaluate.judges._tables import COSTS, UNSCORED, agreement_table, powered_table, trust, unreadable
from sartor.evaluate.suites import Ground, Suite
from sartor.events import Noted, Progressed
from sartor.metrics._mean import ratio
from sartor.metrics._reasons import short
from sartor.protocols import Chart, Outcome, Table

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sartor.evaluate.suites import Emit, Subject
    from sartor.protocols import Metric

METRICS = ("win_rate*",)
FIRST, SECOND, TIE = "A", "B", "tie"
REPLY = (
    'Reply with one JSON object and nothing else: {"reason": "one sentence", "winner": "A", "B" or "tie"}, '
    f"the winner {ABSTAIN}."
)
FORM = schema({"reason": {"type": "string"}, "winner": {"enum": [FIRST, SECOND, TIE, None]}})
EQUAL = Judgement(TIE, "told", "the answers are equal", 0, None)
SHOWN = 10
"""Losses in a table."""
PARTS = 5
"""Groups of pairs by difference in length in a chart."""
MANY = 0.3
"""Share of pairs whose verdict changes with the order, from which a warning is given."""


class Options(Judging):
    """Which model compares answers, and whose."""

    against: Annotated[tuple[str, ...], Field(min_length=1)] = ("base", "few_shot")
    """Models whose answers the tuned model's are compared with, of those in evaluate.against; the first is win_rate."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """Implements `Metric`: wins and half the ties of all pairs that were decided. Statistics per row: (won, 1), or (0, 0)."""

    rival: str
    suffix: str
    options: Options
    gold: _gold.Preferences | None
    higher_is_better: bool = True
    needs: str = "prediction"

    @property
    def name(self) -> str:
        """With the other model's name, but for the first."""
        return f"win_rate{self.suffix}"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2]"""
        wins = self.wins(outcomes)
        told = np.isfinite(wins)
        return np.stack([np.where(told, wins, 0.0), told], axis=1).astype(np.float64)

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2] -> [...]; not a number where no pair was decided."""
        return ratio(sums[..., 0], sums[..., 1])

    def wins(self, outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
        """[n] 1 won, 1/2 tie, 0 lost; not-a-number where the pair was not decided."""
        return np.array([_won(pair) for pair in self.pairs(outcomes)], np.float64)

    def people(self, outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
        """[n] the same by people."""
        found = [
            None
            if self.gold is None
            else self.gold.of(outcome, outcome.columns["model"], self.rival, main=not self.suffix)
            for outcome in outcomes
        ]
        return np.array([np.nan if value is None else value for value in found], np.float64)

    def apart(self, outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
        """[n] how many characters the answer is longer than that of the other model."""
        pairs = self.pairs(outcomes)
        return np.array([pair["lengths"][0] - pair["lengths"][1] if pair else 0 for pair in pairs], np.float64)

    def pairs(self, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
        """[n] what was said in both orders; empty where the other model is not known."""
        return [outcome.columns["pairs"].get(self.rival, {}) for outcome in outcomes]

    def details(self, outcomes: Sequence[Outcome], confidence: float) -> tuple[Table, ...]:
        """Wins and what the judge was asked; order and length; agreement with people; losses."""
        if not any(self.pairs(outcomes)):
            return ()
        return (
            *self._counts(outcomes),
            *self._biases(outcomes, confidence),
            *self._agreement(outcomes, confidence),
            *self._losses(outcomes),
        )

    def _counts(self, outcomes: Sequence[Outcome]) -> Iterator[Table]:
        wins = self.wins(outcomes)
        said = [pair[order] for pair in self.pairs(outcomes) if pair for order in ORDERS]
        columns = ("pairs", "won", "tied", "lost", "not decided", "of the ties, by order alone")
        flips = sum(_flipped(pair) for pair in self.pairs(outcomes))
        line = (len(wins), *(int((wins == value).sum()) for value in (1, 0.5, 0)), int(np.isnan(wins).sum()), flips)
        note = (
            "Where the two orders of a pair differ it is a tie; a pair without a verdict in both orders is not counted."
        )
        yield Table(f"Against {self.rival}: pairs", columns, (line,), note)
        asked = ("questions", "answered", "judge abstained", "not readable", "asked again", *COSTS)
        costs = cost_cells(said, self.options.price)
        yield Table(f"Against {self.rival}: what the judge was asked", asked, ((*counted(said), *costs),), UNSCORED)

    def _biases(self, outcomes: Sequence[Outcome], confidence: float) -> Iterator[Table]:
        pairs, wins, apart = self.pairs(outcomes), self.wins(outcomes), self.apart(outcomes)
        both = [pair for pair in pairs if _asked(pair) and all(pair[order]["value"] is not None for order in ORDERS)]
        said = [pair[order]["value"] for pair in both for order in ORDERS]
        told = np.isfinite(wins)
        longer, decided = told & (apart > 0), told & (apart != 0) & (wins != 0.5)
        facts = (
            ("verdict changes with the order", sum(map(_flipped, both)), len(both)),
            ("the answer shown first is preferred", said.count(FIRST), len(said) - said.count(TIE)),
            ("the longer answer wins", int(((apart > 0) == (wins == 1))[decided].sum()), int(decided.sum())),
            ("this model's answer is longer", int(longer.sum()), int(told.sum())),
        )  # fmt: skip
        lines = tuple((what, *_share(count, of, confidence), of) for what, count, of in facts)
        note = (
            "Ties aside. Without bias the first is 0 and the second one half; the third is fair where longer answers are better. "
            f"{_length.WITHHELD}"
        )
        yield Table(f"Against {self.rival}: order and length", ("", "share", "from", "to", "of"), lines, note)

    def _agreement(self, outcomes: Sequence[Outcome], confidence: float) -> Iterator[Table]:
        judge, people = self.wins(outcomes), self.people(outcomes)
        both = np.isfinite(judge) & np.isfinite(people)
        if both.any():
            found = _gold.preferred(judge[both], people[both], confidence)
            yield agreement_table(f"Against {self.rival}: agreement with people", found)
            yield powered_table(f"Against {self.rival}: judge and people together", judge, people, confidence)

    def _losses(self, outcomes: Sequence[Outcome]) -> Iterator[Table]:
        lines = [
            (outcome.id, short(pair["first"]["reason"]), short(outcome.prediction or ""), short(pair["answer"]))
            for outcome, pair in zip(outcomes, self.pairs(outcomes), strict=True)
            if _won(pair) == 0
        ]
        columns = ("row", "what the judge says", "this model (A)", f"{self.rival} (B)")
        more = len(lines) - SHOWN
        if lines:
            note = f"and {more:,} more" if more > 0 else ""
            yield Table(f"Against {self.rival}: lost in both orders", columns, tuple(lines[:SHOWN]), note)


ORDERS = ("first", "second")
"""The model's answer is A in the first question and B in the second."""


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """Implements `Metric`: the win rate for answers of equal length."""

    of: WinRate
    higher_is_better: bool = True
    needs: str = "prediction"

    @property
    def name(self) -> str:
        """Of the win rate, with its correction."""
        return f"{self.of.name}_length_controlled"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 2 BINS]"""
        return _length.units(self.of.wins(outcomes), self.of.apart(outcomes))

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 2 BINS] -> [...]; not a number where no pair was decided."""
        return _length.rate(sums)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Implements `Metric`: the win rate by people, from their verdicts and the judge's."""

    of: WinRate
    higher_is_better: bool = True
    needs: str = "prediction"

    @property
    def name(self) -> str:
        """Of the win rate, with its correction."""
        return f"{self.of.name}_calibrated"

    def stats(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """[n, 8]"""
        return prediction_powered.units(self.of.wins(outcomes), self.of.people(outcomes))

    def combine(self, sums: np.ndarray) -> np.ndarray:
        """[..., 8] -> [...]; not a number where people judged nothing."""
        return prediction_powered.estimate(sums)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Implements `Suite`. A model is compared with those of `against` that were measured before it."""

    options: Options
    ground: Ground
    places: Sequence[int]
    """Test rows that are judged."""
    gold: _gold.Preferences | None
    against: Sequence[str]
    speaks: bool = True

    @property
    def title(self) -> str:
        """Of its section."""
        return "Against each other, by a judge"

    @property
    def why(self) -> str:
        """What is measured."""
        told = f"Pairs of answers to the same test row, each shown to {self.options.model} in both orders"
        if len(self.places) < len(self.ground.test):
            told += f"; {len(self.places):,} of {len(self.ground.test):,} rows"
        return " ".join(filter(None, [f"{told}.", favours(self.options, [self.ground.base]), trust(self.gold)]))

    @property
    def metrics(self) -> Sequence[Metric]:
        """For each other model that is known: the win rate, the same for equal length, and with people."""
        found: list[Metric] = []
        for rival in self.against:
            if self.ground.known and rival not in self.ground.known:
                continue
            suffix = "" if rival == self.against[0] else f"_{rival}"
            found += rates(rival, suffix, self.options, self.gold)
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
        """The outcome of each row with columns.pairs: by model, what was said in both orders. `given` are all of the model's."""
        rivals = [rival for rival in self.against if rival in self.ground.known and rival != name]
        with kept(folder) as folder:
            write_prompts(folder, self.options, [_told()])
            judge = Judge(self.options, self.ground, folder)
            failed = flips = done = 0
            for block in blocks(units):
                places = [self.places[unit] for unit in block]
                ours = [given[place] for place in places]
                found = {rival: self._said(judge, ours, rival, places) for rival in rivals}
                for place, outcome in enumerate(ours):
                    pairs = {rival: said[place] for rival, said in found.items()}
                    failed += sum(pair[order]["state"] == "unreadable" for pair in pairs.values() for order in ORDERS)
                    flips += sum(map(_flipped, pairs.values()))
                    yield bare(outcome, {"model": name, "pairs": pairs})
                done += len(block)
                if rivals:
                    emit(Progressed(f"judging {name}", done, len(units)))
            count = len(units) * len(rivals)
            if flips > MANY * count:
                what = f"the verdicts of {self.options.model} on {flips:,} of {count:,} pairs change with the order of the answers"
                emit(Noted("warning", "E175", f"{what}; those count as ties, and such a judge tells little"))
            if failed:
                emit(Noted("warning", "E174", unreadable(failed, 2 * count, self.options)))

    def charts(self, outcomes: Mapping[str, Sequence[Outcome]]) -> tuple[Chart, ...]:
        """The win rate by how much longer the answer is."""
        series: dict[str, list[tuple[float, float]]] = {}
        rates = [each for each in self.metrics if isinstance(each, WinRate)]
        for model, given in outcomes.items():
            for rate in rates:
                points = _by_length(rate.wins(given), rate.apart(given))
                if len(points) > 1:
                    series[f"{model} against {rate.rival}"] = points
        title = "Wins by difference in length"
        return (Chart(title, "characters longer than the other answer", "% won", series),) if series else ()

    def _said(self, judge: Judge, ours: Sequence[Outcome], rival: str, places: Sequence[int]) -> list[dict[str, Any]]:
        theirs = [self.ground.known[rival][place].prediction or "" for place in places]
        instruction = written("pairwise").instruction
        questions = [
            _question(instruction, outcome, *pair)
            for outcome, other in zip(ours, theirs, strict=True)
            if outcome.prediction != other
            for pair in ((outcome.prediction or "", other), (other, outcome.prediction or ""))
        ]
        said = iter(judge.ask(questions, FORM, _read))
        found = []
        for outcome, other in zip(ours, theirs, strict=True):
            first, second = (EQUAL, EQUAL) if outcome.prediction == other else (next(said), next(said))
            lengths = [len(outcome.prediction or ""), len(other)]
            found.append({"first": first.json(), "second": second.json(), "lengths": lengths, "answer": other})
        return found


def rates(rival: str, suffix: str, options: Options, gold: _gold.Preferences | None) -> list[Metric]:
    """The win rate against one model, the same for equal length, and with people."""
    rate = WinRate(rival, suffix, options, gold)
    return [rate, LengthControlled(rate), *([] if gold is None else [Calibrated(rate)])]


def files(options: Options) -> list[str]:
    """What is read."""
    return [] if options.gold is None else [options.gold]


def suite(options: Options, ground: Ground) -> Suite:
    """Read gold, and see whether the judge is there.

    Raises RecipeError E171, E173, DataError E172, and ModelError for a judge that cannot be asked.
    """
    gold = None if options.gold is None else _gold.preferences(options.gold, ground.root)
    check(options, ground)
    places = drawn(ground, options.rows, _gold.named_rows(gold))
    return Pairs(options, ground, places, gold, options.against)


def _question(instruction: str, outcome: Outcome, first: str, second: str) -> str:
    parts = [("question", outcome.prompt), *([("right_answer", outcome.reference)] if outcome.reference else [])]
    return questioned(instruction, [*parts, ("answer_A", first), ("answer_B", second)], REPLY)


def _read(body: dict[str, Any]) -> Said | None:
    if "winner" not in body:
        return None
    winner = body["winner"]
    if winner is None:
        return Said(None, reason_of(body))
    known = {FIRST.lower(): FIRST, SECOND.lower(): SECOND, TIE: TIE}
    said = known.get(winner.strip().lower()) if isinstance(winner, str) else None
    return None if said is None else Said(said, reason_of(body))


def _won(pair: Mapping[str, Any]) -> float:
    """1, 1/2 or 0 of the model whose answer is A first; not-a-number where one of the two orders has no verdict."""
    first, second = (pair[order]["value"] if pair else None for order in ORDERS)
    if first is None or second is None:
        return float("nan")
    if (first, second) == (FIRST, SECOND):
        return 1.0
    return 0.0 if (first, second) == (SECOND, FIRST) else 0.5


def _asked(pair: Mapping[str, Any]) -> bool:
    return bool(pair) and pair["first"]["tries"] > 0


def _flipped(pair: Mapping[str, Any]) -> bool:
    """Whether both orders have a verdict, and they do not mean the same."""
    first, second = (pair[order]["value"] if pair else None for order in ORDERS)
    same = {FIRST: SECOND, SECOND: FIRST, TIE: TIE}
    return first is not None and second is not None and same[first] != second


def _by_length(wins: NDArray[np.float64], apart: NDArray[np.float64]) -> list[tuple[float, float]]:
    """(mean difference in length, % won) of groups of pairs, shorter answers first."""
    told = np.isfinite(wins)
    order = np.argsort(apart[told], kind="stable")
    groups = [group for group in np.array_split(order, PARTS) if len(group)]
    return [(float(apart[told][group].mean()), 100 * float(wins[told][group].mean())) for group in groups]


def _share(count: int, of: int, confidence: float) -> tuple[float | None, float | None, float | None]:
    if not of:
        return None, None, None
    low, high = wilson(count, of, confidence)
    return count / of, low, high


def _told() -> dict[str, Any]:
    """What is written into a run."""
    text = written("pairwise")
    digest = hashlib.sha256("\n".join([text.instruction, MATERIAL, REPLY]).encode()).hexdigest()
    told = {"name": text.name, "version": text.version, "sha256": digest, "instruction": text.instruction}
    return told | {"material": MATERIAL, "reply": REPLY}
