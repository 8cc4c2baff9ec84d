"""What ratings add up to: against closed forms, plain references, and raters who copy each other."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from rated import answers as outcomes
from scipy.stats import bootstrap

from sartor.data.annotate.marks import Mark
from sartor.evaluate import intervals
from sartor.evaluate.asking import BAD, SCALE, TIE, A, Asked, B, Plan, order, sides, units
from sartor.evaluate.opinions import AGREEMENT, ALL, before, told, verdict


def asked(
    count: int = 40, kind: Any = "pairwise", questions: tuple[str, ...] = ("overall",), rows: int = 1000
) -> Asked:
    given = outcomes(count)
    return units(Plan(kind, "base", questions, rows, seed=7), given["base"], given["tuned"])


def said(one: Asked, rater: str, choose: Any) -> dict[str, Mark]:
    """What a rater says, where `choose` gives tuned, base, tie or both bad for a unit; or a step of the scale."""
    marks = {}
    for number, unit in enumerate(one.units, 1):
        shown = sides(unit.item, rater, one.plan.seed)
        label = choose(unit)
        if label is None:
            continue
        if label in ("tuned", "base"):
            label = A if unit.models[shown[0]] == label else B
        marks[unit.item.key] = Mark(
            number=number, time=0.0, annotator=rater, row=unit.item.key, action="label", label=label, order=shown
        )
    return marks


def by_row(values: Mapping[int, str], one: Asked) -> Any:
    rows = list(dict.fromkeys(unit.row for unit in one.units))
    return lambda unit: values.get(rows.index(unit.row))


def body(one: Asked, answers: Mapping[str, Mapping[str, Mark]]) -> dict[str, Any]:
    found = told(one, answers, name="human-x", confidence=0.95, resamples=1000)
    assert found is not None
    return found


def scores(found: dict[str, Any], metric: int = 0) -> tuple[float, float, float]:
    score = found["comparison"]["metrics"][metric]["scores"]["tuned"]
    return score["value"], score["low"], score["high"]


def table(found: dict[str, Any], title: str) -> list[list[Any]]:
    return next(each["models"][ALL]["rows"] for each in found["comparison"]["details"] if each["title"] == title)


def test_a_choice_means_the_model_that_stood_there() -> None:
    one = asked()
    orders = Counter()
    for rater in ("ann", "bob"):
        for unit in one.units:
            shown = sides(unit.item, rater, 7)
            orders[rater, shown] += 1
            texts = [unit.item.answers[side].text for side in shown]
            mark = Mark(number=1, time=0, annotator=rater, row="x", action="label", label=A, order=shown)
            assert verdict(mark) == ("tuned" if "splendid" in texts[0] else "other")
    assert all(8 <= orders[rater, way] <= 22 for rater in ("ann", "bob") for way in ((0, 1), (1, 0)))
    assert [sides(u.item, "ann", 7) for u in one.units] != [sides(u.item, "bob", 7) for u in one.units]


def test_questions_about_a_row_stand_together_with_the_answers_in_the_same_order() -> None:
    one = asked(questions=("accuracy", "tone"))
    first = order(one, "ann")
    rows = [one.units[place].row for place in first]
    assert all(rows[n] == rows[n + 1] for n in range(0, len(rows), 2))
    assert len({sides(u.item, "ann", 7) for u in one.units if u.row == rows[0]}) == 1
    assert sorted(first) == list(range(len(one.units)))
    assert first != order(one, "bob")


def test_more_rows_add_to_those_that_were_asked_before() -> None:
    few, many = asked(rows=10), asked(rows=20)
    assert {u.item.key for u in few.units} < {u.item.key for u in many.units}
    assert few.drawn == 10
    assert len(few.same) + few.rows == 10


def test_one_rater_without_ties_has_the_interval_of_wilson() -> None:
    one = asked()
    found = body(one, {"ann": said(one, "ann", by_row({n: "tuned" if n % 3 else "base" for n in range(30)}, one))})
    assert scores(found) == pytest.approx((20 / 30, *intervals.wilson(20, 30, 0.95)))
    gain = found["comparison"]["metrics"][0]["differences"]["base"]
    assert (gain["low"], gain["high"]) == pytest.approx(intervals.bonett_price(20, 10, 30, 0.95))


def test_ties_and_both_bad_are_half_a_win_and_never_without_an_interval() -> None:
    one = asked()
    values = dict(enumerate(["tuned"] * 9 + ["base"] * 3 + [TIE] * 10 + [BAD] * 8))
    found = body(one, {"ann": said(one, "ann", by_row(values, one))})
    value, low, high = scores(found)
    assert value == pytest.approx((9 + 9) / 30)
    assert (low, high) == pytest.approx(intervals.half_ties(9, 3, 30, 0.95))
    all_tied = body(one, {"ann": said(one, "ann", lambda unit: TIE)})
    value, low, high = scores(all_tied)
    assert value == 0.5
    assert low < 0.46 < 0.54 < high
    assert table(found, "What each rater said")[0][:7] == ["ann", "overall", 30, 9, 10, 8, 3]


def test_raters_who_copy_each_other_do_not_narrow_the_interval() -> None:
    one = asked()
    draw = random.Random(3)
    values = {n: draw.choice(["tuned", "tuned", "base", TIE]) for n in range(30)}
    alone = body(one, {"ann": said(one, "ann", by_row(values, one))})
    copied = body(one, {rater: said(one, rater, by_row(values, one)) for rater in ("ann", "bob", "eve")})
    assert scores(copied) == pytest.approx(scores(alone))


def test_rows_are_drawn_again_whole() -> None:
    """The interval of several raters is the BCa bootstrap of the rows' means, as SciPy makes it."""
    one = asked(60)
    draw = random.Random(5)
    given = {rater: said(one, rater, lambda unit: draw.choice(["tuned", "tuned", "base", TIE, BAD])) for rater in "abc"}
    value, low, high = scores(body(one, given))
    means = [
        np.mean([{"tuned": 1.0, "other": 0.0}.get(verdict(marks[unit.item.key]), 0.5) for marks in given.values()])
        for unit in one.units
    ]
    reference = bootstrap((means,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0))
    assert value == pytest.approx(np.mean(means))
    assert (low, high) == pytest.approx(tuple(reference.confidence_interval), abs=0.015)


def test_a_row_counts_once_however_many_rated_it() -> None:
    one = asked()
    first = said(one, "ann", by_row({0: "tuned", 1: "base"}, one))
    second = said(one, "bob", by_row({0: "tuned"}, one))
    third = said(one, "eve", by_row({0: "tuned"}, one))
    assert scores(body(one, {"ann": first, "bob": second, "eve": third}))[0] == 0.5


def test_scales_are_compared_within_raters() -> None:
    one = asked(40, "likert", ("tone",))
    harsh = said(one, "ann", lambda unit: SCALE[1 if "tuned" in unit.models else 0])
    mild = said(one, "bob", lambda unit: SCALE[4 if "tuned" in unit.models else 3])
    found = body(one, {"ann": harsh, "bob": mild})
    metric = found["comparison"]["metrics"][0]
    alike = 10
    theirs, ours = (metric["scores"][model]["value"] for model in ("base", "tuned"))
    assert ours == pytest.approx((2 + 5) / 2)
    assert theirs == pytest.approx(((40 - alike) * 2.5 + alike * 3.5) / 40)
    assert metric["differences"]["base"]["value"] == pytest.approx(0.75)
    assert metric["differences"]["base"]["word"] == "better"


def test_half_rated_rows_of_a_scale_wait() -> None:
    one = asked(12, "likert", ("tone",))
    marks = said(one, "ann", lambda unit: SCALE[2])
    lost = next(unit.item.key for unit in one.units if unit.models == ("tuned",))
    found = body(one, {"ann": {key: mark for key, mark in marks.items() if key != lost}})
    assert found["comparison"]["rows"] == 11
    assert "1 ratings wait" in found["why"]


def test_ratings_of_other_answers_are_said_and_not_counted() -> None:
    one = asked()
    marks = said(one, "ann", lambda unit: "tuned")
    strange = {**marks, "gone": next(iter(marks.values()))}
    found = body(one, {"ann": strange})
    assert "1 ratings are of answers that have changed" in found["why"]
    assert found["comparison"]["rows"] == len(one.units)


def test_nothing_is_told_before_anybody_has_rated() -> None:
    assert told(asked(), {}, name="x", confidence=0.95, resamples=200) is None


def test_agreement_is_that_of_plain_references() -> None:
    """Fleiss (1971) and Krippendorff (2011) written out over the same votes."""
    one = asked(60)
    draw = random.Random(11)
    truth = {unit.row: draw.choice(["tuned", "base", TIE, BAD]) for unit in one.units}

    def choose(unit: Any) -> str:
        return truth[unit.row] if draw.random() < 0.6 else draw.choice(["tuned", "base", TIE, BAD])

    given = {rater: said(one, rater, choose) for rater in ("ann", "bob", "eve")}
    votes = [[verdict(marks[unit.item.key]) for marks in given.values()] for unit in one.units]
    lines = {line[1]: float(line[2].removesuffix(" %")) for line in table(body(one, given), AGREEMENT)}
    assert lines["Fleiss' kappa"] == pytest.approx(_fleiss(votes), abs=5e-4)
    assert lines["Krippendorff's alpha"] == pytest.approx(_alpha(votes), abs=5e-4)
    assert lines["raters who say the same"] == pytest.approx(100 * _percent(votes), abs=0.05)


def _percent(votes: list[list[str]]) -> float:
    return float(np.mean([np.mean([a == b for a, b in permutations(row, 2)]) for row in votes]))


def _fleiss(votes: list[list[str]]) -> float:
    shares = Counter(vote for row in votes for vote in row)
    total = sum(shares.values())
    by_chance = sum((count / total) ** 2 for count in shares.values())
    return (_percent(votes) - by_chance) / (1 - by_chance)


def _alpha(votes: list[list[str]]) -> float:
    everything = [vote for row in votes for vote in row]
    expected = np.mean([a != b for a, b in permutations(everything, 2)])
    return float(1 - (1 - _percent(votes)) / expected)


def test_how_many_rows_it_takes_is_what_simulation_says() -> None:
    rows = intervals.needed(0.1, math.sqrt(0.24), 0.95)
    assert rows == 189
    draws = np.random.default_rng(1).binomial(rows, 0.6, size=4000)
    won, counts = np.unique(draws, return_counts=True)
    decided = [intervals.wilson(int(wins), rows, 0.95).low > 0.5 for wins in won]
    assert np.average(decided, weights=counts) == pytest.approx(0.8, abs=0.03)


def test_fewer_rows_are_needed_where_several_rate_each() -> None:
    """With ties and three raters whose votes hang together, the deviation of a row's mean is what counts."""
    random_ = np.random.default_rng(2)

    def rows_of(count: int) -> np.ndarray:
        lean = np.clip(random_.normal(0.55, 0.25, size=(count, 1)), 0, 1)
        votes = (random_.random((count, 3)) < lean).astype(float)
        votes[random_.random((count, 3)) < 0.2] = 0.5
        return votes.mean(axis=1)

    many = rows_of(200_000)
    rows = intervals.needed(many.mean() - 0.5, many.std(), 0.95)
    seen = np.array([rows_of(rows) for _ in range(1500)])
    reach = intervals.z(0.95) * seen.std(axis=1, ddof=1) / math.sqrt(rows)
    assert np.mean(seen.mean(axis=1) - reach > 0.5) == pytest.approx(0.8, abs=0.035)


def test_half_ties_covers() -> None:
    random_ = np.random.default_rng(4)
    for wins, losses in ((0.5, 0.3), (0.1, 0.02), (0.9, 0.05)):
        truth = wins + (1 - wins - losses) / 2
        draws = random_.multinomial(40, [wins, losses, 1 - wins - losses], size=2000)
        held = [low <= truth <= high for low, high in (intervals.half_ties(w, o, 40, 0.95) for w, o, _ in draws)]
        assert np.mean(held) > 0.93


def test_the_outlook_follows_from_the_ratings() -> None:
    one = asked()
    values = {n: "tuned" if n % 9 < 5 else "base" for n in range(30)}
    found = body(one, {"ann": said(one, "ann", by_row(values, one))})
    (outlook,) = found["outlook"]
    wins = sum(value == "tuned" for value in values.values())
    spread = np.std([value == "tuned" for value in values.values()], ddof=1)
    assert outlook["decided"] is None
    assert outlook["more_for_seen"] == intervals.needed(wins / 30 - 0.5, spread, 0.95) - 30
    assert outlook["more_for_fair"] == intervals.needed(0.1, spread, 0.95) - 30
    assert found["comparison"]["metrics"][0]["differences"]["base"]["rows_to_decide"] == outlook["more_for_seen"]
    few = body(one, {"ann": said(one, "ann", by_row({n: values[n] for n in range(6)}, one))})
    assert few["outlook"][0]["more_for_seen"] is None
    assert before(one, 0.95).startswith("189 rows decide a win rate of 60%")
