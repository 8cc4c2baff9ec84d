"""The statistics of drift: p-values against scipy, capital against a plain computation, alarms within stated numbers of requests."""

from __future__ import annotations

import json
import math

import drifting
import numpy as np
import pytest
from scipy.stats import kstest, percentileofscore

from sartor.monitor.drift import SETS, UPWARD, WARM, Detector, threshold
from sartor.monitor.watch import Watch

FIRST = 1000


def detector(side: str, reference: np.ndarray) -> Detector:
    made = Detector("x", side)
    for level in reference:
        made.learn(level if isinstance(level, str) else int(level), 0.0)
    return made


@pytest.mark.parametrize("side", ["more", "less", "both"])
def test_p_values_are_ranks(side: str) -> None:
    lot = np.random.default_rng(0)
    seen = list(lot.integers(0, 30, 200))
    made = detector(side, np.array(seen))
    for level in lot.integers(0, 30, 50).tolist():
        p = made.p_value(level)
        seen.append(level)
        below, upto = (percentileofscore(seen, level, kind) / 100 for kind in ("strict", "weak"))
        low, high = (below, upto) if side == "less" else (1 - upto, 1 - below)
        assert low - 1e-12 <= p <= high + 1e-12
        made.n += 1


@pytest.mark.parametrize("side", ["more", "both", "category"])
def test_p_values_of_a_stable_stream_are_uniform_and_independent(side: str) -> None:
    lot = np.random.default_rng(1)
    levels = lot.poisson(4, 4000).tolist()
    if side == "category":
        levels = [f"label {level}" for level in levels]
    made = detector(side, np.array(levels[:50], dtype=object))
    found = []
    for level in levels[50:]:
        found.append(made.p_value(level))
        made.n += 1
    assert kstest(found, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 / math.sqrt(len(found))


@pytest.mark.parametrize("side", ["more", "both"])
def test_capital_is_the_product_of_its_bets(side: str) -> None:
    lot = np.random.default_rng(2)
    levels = lot.integers(0, 40, 90).tolist()
    made, plain = detector(side, np.arange(40)), detector(side, np.arange(40))
    made.take(levels, math.inf)
    p = []
    for level in levels:
        p.append(plain.p_value(level))
        plain.n += 1
    sets = SETS[:UPWARD] if side == "more" else SETS
    total = 0.0
    for number, begins in enumerate(range(0, 90, 20), 1):
        for low, high in sets:
            capital, hits, size = 1 / (number * (number + 1)) / len(sets), 0, high - low
            for count, value in enumerate(p[begins:]):
                share = (hits + size) / (count + 1)
                if side == "more":
                    share = max(share, size)
                inside = low <= value < high
                capital *= share / size if inside else (1 - share) / (1 - size)
                hits += inside
            total += capital
    assert made.evidence == pytest.approx(math.log(total), rel=1e-9)


def test_the_pieces_in_which_values_come_do_not_matter() -> None:
    levels = np.random.default_rng(3).integers(0, 9, 500).tolist()
    whole, parts = detector("both", np.arange(9)), detector("both", np.arange(9))
    whole.take(levels, math.inf)
    for begin in range(0, 500, 7):
        parts.take(levels[begin : begin + 7], math.inf)
        parts = Detector.of(json.loads(json.dumps(parts.json())))
    assert parts.evidence == pytest.approx(whole.evidence, rel=1e-9)
    assert parts.begins.tolist() == whole.begins.tolist()
    assert parts.bag == whole.bag


def test_false_alarms_are_as_rare_as_stated() -> None:
    """At alpha 0.3, 200 stable streams of 400 values: 60 false alarms at most are stated."""
    lot = np.random.default_rng(4)
    false = 0
    for number in range(200):
        made = Detector(f"x{number}", "both")
        for level in lot.integers(0, 50, 30).tolist():
            made.learn(level, 0.0)
        false += made.take(lot.integers(0, 50, 400).tolist(), threshold(0.3, 1)) is not None
    assert false <= 60


def test_one_sided_bets_say_nothing_of_better_values() -> None:
    lot = np.random.default_rng(5)
    made = detector("more", lot.integers(50, 100, 300))
    assert made.take(lot.integers(0, 50, 500).tolist(), threshold(0.01, 15)) is None
    other = detector("less", lot.integers(50, 100, 300))
    assert other.take(lot.integers(0, 50, 500).tolist(), threshold(0.01, 15)) is not None


def run(records: list[object], first: int = FIRST) -> Watch:
    watch = Watch.of_beginning(records[:first], 0.01)
    watch.take(records[first:])
    return watch


def test_a_stable_stream_of_ten_thousand_raises_no_alarm() -> None:
    watch = run(list(drifting.stream(10_000, 1)))
    assert watch.alarms == []
    assert watch.requests == 10_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 10))
def test_other_stable_streams_raise_none_either(seed: int) -> None:
    assert run(list(drifting.stream(10_000, seed))).alarms == []


PLANTED = {
    "longer": ("prompt_characters", 40),
    "french": ("prompt_language", 120),
    "new_words": ("prompt_new_words", 40),
    "refusals": ("answer_refuses", 100),
    "broken": ("answer_json", 250),
    "slow": ("seconds", 100),
    "failing": ("failed", 500),
    "one_label": ("answer.intent", 600),
    "repeating": ("answer_repeats", 80),
}
"""Change -> the feature that tells it, and the requests within which it does."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_change_is_found_within_its_number_of_requests(name: str) -> None:
    feature, within = PLANTED[name]
    at = 2000
    watch = run(list(drifting.stream(at + within, 11, change=getattr(drifting, name), at=at)))
    found = {alarm.feature: alarm for alarm in watch.alarms}
    assert feature in found
    assert all(alarm.number > at for alarm in watch.alarms)
    assert at < found[feature].number <= at + within
    rows = [int(row.id[1:]) for row in found[feature].rows]
    assert len(rows) == 5
    assert sum(row >= at for row in rows) >= 3


def test_without_a_reference_values_that_come_late_are_learnt_first() -> None:
    """Feedback and the like: nothing is said before there is something to compare with."""
    watch = run(list(drifting.stream(FIRST, 3)), first=600)
    assert watch.detectors["seconds"].n > 0
    assert watch.detectors["score"].reference.total() == 0 < WARM


def test_a_watch_goes_on_from_its_json() -> None:
    records = list(drifting.stream(1800, 12, change=drifting.longer, at=1500))
    whole = run(records)
    watch = Watch.of_beginning(records[:FIRST], 0.01)
    for begin in range(FIRST, 1800, 130):
        watch.take(records[begin : begin + 130])
        plan = type(watch.plan).of(json.loads(json.dumps(watch.plan.json())))
        assert plan == watch.plan
        watch = Watch.of(plan, json.loads(json.dumps(watch.json())))
    assert [(alarm.id, alarm.number) for alarm in watch.alarms] == [(alarm.id, alarm.number) for alarm in whole.alarms]
    assert whole.alarms
