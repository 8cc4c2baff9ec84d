"""Intervals hold the truth as often as they say, and a gate passes a model that is no better at most as often as it may.

Simulated from distributions whose true value is known: shares, differences of shares, means of skewed scores, a ratio (perplexity), each
on as many rows as a test set has. Nominal 95 %, allowed 93 to 97 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sartor.evaluate import metrics as measures
from sartor.evaluate.compare import compare
from sartor.evaluate.verdict import judge
from sartor.protocols import Outcome
from sartor.recipe.schema import Gate

pytestmark = pytest.mark.slow
TRIALS, ROWS, RESAMPLES = 700, 150, 600
LOW, HIGH = 0.93, 0.97

Draw = Callable[[np.random.Generator], list[Outcome]]


def shares(right: float) -> Draw:
    """Rows that are right with this chance."""

    def draw(dice: np.random.Generator) -> list[Outcome]:
        hits = dice.random(ROWS) < right
        return [Outcome(str(row), "?", "a", prediction="a" if hit else "b") for row, hit in enumerate(hits)]

    return draw


def surprises(mean: float) -> Draw:
    """Rows of various lengths whose tokens have this negative log-likelihood on average."""

    def draw(dice: np.random.Generator) -> list[Outcome]:
        tokens = dice.integers(5, 40, ROWS)
        nll = [float(dice.gamma(2.0 * count, mean / 2.0)) for count in tokens]
        return [
            Outcome(str(row), "?", "a", prediction="a", nll=value, tokens=int(count), bytes=int(count))
            for row, (value, count) in enumerate(zip(nll, tokens, strict=True))
        ]

    return draw


def overlaps(shape: float) -> Draw:
    """Answers of ten words of which a skewed share are those of the reference."""

    def draw(dice: np.random.Generator) -> list[Outcome]:
        known = dice.binomial(10, dice.beta(shape, 1.5, ROWS))
        reference = " ".join(f"w{place}" for place in range(10))
        return [
            Outcome(
                str(row),
                "?",
                reference,
                prediction=" ".join(f"{'w' if place < count else 'x'}{place}" for place in range(10)),
            )
            for row, count in enumerate(known)
        ]

    return draw


CASES = {
    "half right": ("exact_match", shares(0.5), 0.5),
    "nearly all right": ("exact_match", shares(0.95), 0.95),
    "perplexity": ("perplexity", surprises(1.3), math.exp(1.3)),
    "skewed overlap": ("token_f1", overlaps(0.6), 0.6 / 2.1),
}


@pytest.mark.parametrize("case", CASES)
def test_an_interval_of_a_score_holds_the_truth(case: str) -> None:
    name, draw, truth = CASES[case]
    (metric,) = measures.load([name], Path())
    dice = np.random.default_rng(1)
    held = 0
    for trial in range(TRIALS):
        score = compare({"base": draw(dice)}, [metric], resamples=RESAMPLES, seed=trial).score(name, "base")
        assert score is not None
        held += score.low <= truth <= score.high
    assert LOW <= held / TRIALS <= HIGH + 0.01, held / TRIALS


PAIRS = {
    "shares": ("exact_match", shares(0.6), shares(0.75), 0.15),
    "perplexity": ("perplexity", surprises(1.3), surprises(1.1), math.exp(1.1) - math.exp(1.3)),
    "overlap": ("token_f1", overlaps(0.6), overlaps(1.0), 1.0 / 2.5 - 0.6 / 2.1),
}


@pytest.mark.parametrize("case", PAIRS)
def test_an_interval_of_a_difference_holds_the_truth(case: str) -> None:
    name, before, after, truth = PAIRS[case]
    (metric,) = measures.load([name], Path())
    dice = np.random.default_rng(2)
    held = 0
    for trial in range(TRIALS):
        found = compare({"base": before(dice), "tuned": after(dice)}, [metric], resamples=RESAMPLES, seed=trial)
        difference = found.difference(name, "base")
        assert difference is not None
        held += difference.low <= truth <= difference.high
    assert LOW <= held / TRIALS <= HIGH + 0.01, held / TRIALS


@pytest.mark.parametrize(
    ("name", "draw"), [("exact_match", shares(0.7)), ("token_f1", overlaps(0.8)), ("perplexity", surprises(1.2))]
)
def test_a_gate_passes_a_model_that_is_no_better_at_most_once_in_twenty(name: str, draw: Draw) -> None:
    (metric,) = measures.load([name], Path())
    dice = np.random.default_rng(3)
    passed = 0
    for trial in range(TRIALS):
        found = compare({"base": draw(dice), "tuned": draw(dice)}, [metric], resamples=RESAMPLES, seed=trial)
        passed += judge([Gate(metric=name, better_than="base")], found).passed
    assert passed / TRIALS <= 0.05, passed / TRIALS
