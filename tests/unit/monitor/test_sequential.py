"""Intervals that hold at all times: against their formula, and by simulation of somebody who looks after every answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import betaln

from sartor.errors import InputError
from sartor.monitor.ab import judge
from sartor.monitor.guard import Watch, parse
from sartor.monitor.index import Entry
from sartor.monitor.measured import MEASURES
from sartor.monitor.sequential import HALF, Sums, log_evidence, share_interval, time_interval

ALPHA = 0.05
LOOKS = 2000


def evidence(s: np.ndarray, n: np.ndarray, mean: float) -> np.ndarray:
    """log M_n by scipy."""
    rest = n - s
    mixture = betaln(HALF + s, HALF + rest) - betaln(HALF, HALF)
    return mixture - s * math.log(mean) - rest * math.log(1 - mean)


def sums(values: np.ndarray) -> Sums:
    return Sums(len(values), float(values.sum()), float((values**2).sum()))


def test_the_evidence_is_that_of_the_formula_and_the_interval_its_level_set() -> None:
    draw = np.random.default_rng(0)
    for n, p in ((1, 0.5), (30, 0.1), (500, 0.9)):
        one = sums((draw.random(n) < p).astype(float))
        for mean in (0.03, 0.4, 0.9):
            expected = float(evidence(np.array(one.total), np.array(one.n), mean))
            assert log_evidence(one, mean) == pytest.approx(expected, abs=1e-9)
        low, high = share_interval(one, ALPHA)
        assert low <= one.total / n <= high
        for edge in (low, high):
            if 0 < edge < 1:
                assert log_evidence(one, edge) == pytest.approx(-math.log(ALPHA), abs=1e-6)
    assert share_interval(Sums(), ALPHA) == (0, 1)
    assert share_interval(Sums(20, 0.0, 0.0), ALPHA)[0] == 0
    assert share_interval(Sums(20, 20.0, 20.0), ALPHA)[1] == 1


@pytest.mark.parametrize("kind", ["rare", "even", "scores"])
def test_who_looks_after_every_answer_is_misled_no_more_often_than_stated(kind: str) -> None:
    draw = np.random.default_rng(7)
    mean = {"rare": 0.05, "even": 0.5, "scores": 0.3}[kind]
    size = (1500, LOOKS)
    values = draw.beta(0.3, 0.7, size) if kind == "scores" else (draw.random(size) < mean).astype(float)
    running = evidence(values.cumsum(1), np.arange(1, LOOKS + 1)[None], mean)
    ever = (running >= -math.log(ALPHA)).any(1).mean()
    assert ever <= ALPHA
    # Looking as often with the usual test at a fixed n errs far more often: the simulation can see what it looks for.
    n = np.arange(1, LOOKS + 1)
    fixed = np.abs(values.cumsum(1) / n - mean) > 1.96 * values.std() / np.sqrt(n)
    assert fixed[:, 30:].any(1).mean() > 0.25


def test_times_are_within_their_interval_at_all_looks() -> None:
    draw = np.random.default_rng(3)
    missed = 0
    for _ in range(200):
        values = draw.lognormal(0, 0.7, LOOKS)
        totals, squares = values.cumsum(), (values**2).cumsum()
        for n in range(100, LOOKS, 50):
            low, high = time_interval(Sums(n, totals[n - 1], squares[n - 1]), ALPHA)
            if not low <= math.exp(0.245) <= high:
                missed += 1
                break
    assert missed <= 200 * ALPHA
    assert time_interval(Sums(99, 10.0, 20.0), ALPHA) == (-math.inf, math.inf)
    assert time_interval(sums(draw.lognormal(0, 0.7, 4000)), ALPHA)[1] < 1.4


def stopped(left: float, right: float, *, margin: float, looks: int, seed: int) -> tuple[str, str | None, int]:
    """What somebody says who looks after every 100 answers of two arms."""
    draw = np.random.default_rng(seed)
    one, two = (draw.random(looks) < left).astype(float), (draw.random(looks) < right).astype(float)
    for n in range(100, looks + 1, 100):
        arms = {"one": sums(one[:n]), "two": sums(two[:n])}
        verdict = judge(arms, {}, MEASURES["thumb"], ALPHA, margin)
        if verdict.says != "none yet":
            return verdict.says, verdict.winner, n
    return "none yet", None, looks


def test_a_true_difference_is_found_and_none_is_not() -> None:
    found = [stopped(0.6, 0.5, margin=0.01, looks=4000, seed=seed) for seed in range(20)]
    assert {(says, winner) for says, winner, _ in found} == {("winner", "one")}
    none = [stopped(0.5, 0.5, margin=0.0, looks=1500, seed=seed) for seed in range(100)]
    assert sum(says == "winner" for says, _, _ in none) <= 100 * ALPHA
    assert stopped(0.5, 0.5, margin=0.1, looks=6000, seed=1)[0] == "stop"


def test_the_faster_arm_wins_and_three_arms_are_compared_at_once() -> None:
    draw = np.random.default_rng(1)
    times = {
        name: sums(draw.lognormal(mean, 0.3, 2000)) for name, mean in (("slow", 0.3), ("fast", 0.0), ("mid", 0.15))
    }
    verdict = judge(times, {"fast": 2100}, MEASURES["seconds"], ALPHA, 0.1)
    assert (verdict.says, verdict.winner) == ("winner", "fast")
    assert verdict.arms[1].answers == 2100
    assert judge({"fast": times["fast"]}, {}, MEASURES["seconds"], ALPHA, 0.1).says == "none yet"


def entry(arm: str, ended: str, **changed: object) -> Entry:
    given = ("x", 1.0, arm, arm, "ab", None, (ended,), 3, 3, 0.1, None, True, "", 0)
    return Entry(*given, **changed)  # type: ignore[arg-type]


def test_a_guard_takes_out_a_bad_arm_soon_and_a_good_one_hardly_ever() -> None:
    draw = np.random.default_rng(2)

    def taken(rate: float, most: int) -> int | None:
        watch = Watch("ab", [parse("error_rate<=0.05")])
        for number, failed in enumerate(draw.random(most) < rate, 1):
            if watch.see(entry("tuned", "late" if failed else "stop")):
                return number
        return None

    soon = [taken(0.4, 200) for _ in range(50)]
    assert all(number is not None and number < 60 for number in soon)
    assert sum(taken(0.05, 500) is not None for _ in range(100)) <= 100 * ALPHA
    watch = Watch("ab", [parse("thumb>=0.5")])
    before = entry("tuned", "stop")
    for _ in range(40):
        broken = watch.see(entry("tuned", "stop", thumb="down"), before)
    assert broken[0].guard == "thumb>=0.5"
    assert broken[0].high < 0.5
    assert not watch.see(entry("tuned", "stop", thumb="down"), entry("tuned", "stop", thumb="up"))
    assert not watch.see(entry("tuned", "gone"))


@pytest.mark.parametrize(
    "text", ["error_rate", "error_rate<0.05", "seconds<=0.5", "error_rate<=2", "thumb<=0.4", "x<=0.1", "thumb>=."]
)
def test_a_guard_that_cannot_act_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="V132"):
        parse(text)
