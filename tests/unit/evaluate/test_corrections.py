from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, permutation_test

from sartor import registry
from sartor.evaluate import intervals
from sartor.evaluate.compare import Comparison, compare
from sartor.evaluate.corrections import adjusted
from sartor.evaluate.numbers import more_rows
from sartor.evaluate.permutation import permutation_p
from sartor.protocols import Metric, Outcome


def metric(name: str) -> Metric:
    found: Metric = registry.component("metric", name).METRIC
    return found


def rows(right: list[bool], nll: list[float] | None = None) -> list[Outcome]:
    return [
        Outcome(str(i), "q", "yes", "yes" if good else "no", nll=2.0 if nll is None else nll[i], tokens=1, bytes=3)
        for i, good in enumerate(right)
    ]


def test_holm_by_hand() -> None:
    """Four p-values: 0.005 * 4, 0.01 * 3, 0.03 * 2, and the last is not below the one before."""
    assert adjusted([0.01, 0.04, 0.03, 0.005], "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted([0.5, 0.9], "holm") == [1.0, 1.0]
    assert adjusted([], "holm") == []


def test_benjamini_hochberg_is_that_of_scipy() -> None:
    p = np.random.default_rng(0).uniform(size=40) ** 2
    assert adjusted(p.tolist(), "benjamini_hochberg") == pytest.approx(false_discovery_control(p, method="bh").tolist())


def test_what_is_not_finite_stays_out() -> None:
    for how in ("holm", "benjamini_hochberg"):
        found = adjusted([0.02, math.nan, 0.04], how)  # type: ignore[arg-type]
        assert math.isnan(found[1])
        assert found[0] == pytest.approx(0.04)
    assert adjusted([0.02, 0.04], "none") == [0.02, 0.04]


def test_false_finds_among_many_are_as_rare_as_stated() -> None:
    """Ten differences that are none: without a correction most trials find one, with Holm about one in twenty does."""
    draw = np.random.default_rng(1)
    found = {"none": 0, "holm": 0}
    for _ in range(400):
        p = draw.uniform(size=10).tolist()
        for how in found:
            found[how] += min(adjusted(p, how)) < 0.05  # type: ignore[arg-type]
    assert found["none"] / 400 > 0.3
    assert found["holm"] / 400 < 0.08


def total(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def test_a_permutation_test_of_paired_means_is_that_of_scipy() -> None:
    draw = np.random.default_rng(2)
    ours, theirs = draw.normal(0.6, 1, 9), draw.normal(0, 1, 9)
    stats = [np.stack([each, np.ones(9)], axis=1) for each in (ours, theirs)]
    wanted = permutation_test(
        (ours, theirs), lambda x, y, axis: x.mean(axis) - y.mean(axis), permutation_type="samples", n_resamples=np.inf,
        vectorized=True,
    )  # fmt: skip
    exact = permutation_p(stats[0], stats[1], total, exchanges=512, seed=0)
    drawn = permutation_p(stats[0], stats[1], total, exchanges=511, seed=0)
    assert exact == pytest.approx(wanted.pvalue, abs=1e-12)
    assert drawn == pytest.approx(wanted.pvalue, abs=0.06)
    assert drawn != exact


def test_equal_models_have_p_one() -> None:
    same = np.ones((30, 2))
    assert permutation_p(same, same, total, exchanges=100, seed=0) == 1.0


def three(count: int = 60) -> Comparison:
    """Tuned is right on two thirds of the rows, the others on half and on a third."""
    shares = {"base": 0.5, "other": 1 / 3, "tuned": 2 / 3}
    models = {name: rows([i < round(share * count) for i in range(count)]) for name, share in shares.items()}
    return compare(models, [metric("exact_match"), metric("rougeL")])


def test_a_comparison_tells_adjusted_chances() -> None:
    found = three()
    pairs = [(name, model) for name in found.metrics for model in ("base", "other")]
    differences = [found.difference(*pair) for pair in pairs]
    plain = [each.p for each in differences if each is not None]
    assert [each.adjusted for each in differences if each is not None] == pytest.approx(adjusted(plain, "holm"))
    body = found.json()
    assert (body["correction"], body["comparisons"]) == ("holm", 4)
    assert body["metrics"][0]["differences"]["base"]["adjusted"] == differences[0].adjusted  # type: ignore[union-attr]


def test_a_word_that_does_not_survive_is_marked() -> None:
    """7 of 7 changed rows are gains: p is 1/128, and with twelve comparisons 12/128."""
    base, tuned = rows([False] * 7 + [True] * 40), rows([True] * 47)
    models = {"base": base, **{f"m{i}": base for i in range(11)}, "tuned": tuned}
    one = compare({"base": base, "tuned": tuned}, [metric("exact_match")]).difference("exact_match", "base")
    many = compare(models, [metric("exact_match")])
    found = many.difference("exact_match", "base")
    assert one is not None
    assert found is not None
    assert one.p == found.p == pytest.approx(1 / 128)
    assert (one.word, one.survives) == ("better", True)
    assert (found.word, found.survives) == ("better", False)
    assert found.adjusted == pytest.approx(12 / 128)
    free = compare(models, [metric("exact_match")], correction="none").difference("exact_match", "base")
    assert free is not None
    assert free.survives


def test_a_baseline_turns_the_comparison_round() -> None:
    models = {name: rows([i < right for i in range(60)]) for name, right in (("a", 20), ("b", 40), ("c", 30))}
    found = compare(models, [metric("exact_match")], baseline="a")
    assert [round(found.difference("exact_match", name).value * 60) for name in ("b", "c")] == [20, 10]  # type: ignore[union-attr]
    assert found.difference("exact_match", "a") is None
    assert found.json()["comparisons"] == 2


def test_a_permutation_test_is_made_where_it_is_asked_for() -> None:
    draw = np.random.default_rng(3)
    base, tuned = (rows([True] * 40, draw.normal(level, 0.5, 40).clip(0.1).tolist()) for level in (3.0, 2.8))
    models = {"base": base, "tuned": tuned}
    names = [metric("perplexity"), metric("exact_match")]
    found = compare(models, names, test="permutation")
    stats = [names[0].stats(models[name]) for name in ("tuned", "base")]
    p = permutation_p(stats[0], stats[1], names[0].combine, exchanges=2000, seed=0)
    difference = found.difference("perplexity", "base")
    assert difference is not None
    assert (difference.test, difference.p) == ("permutation", p)
    assert found.difference("exact_match", "base").test == "McNemar"  # type: ignore[union-attr]
    assert compare(models, names).difference("perplexity", "base").test == "bootstrap"  # type: ignore[union-attr]


def test_more_rows_decide_a_share_four_times_out_of_five() -> None:
    """Of 40 rows 10 are gained and 6 lost; with the rows that are named, samples of such rows show it."""
    base = rows([False] * 10 + [True] * 6 + [True] * 24)
    tuned = rows([True] * 10 + [False] * 6 + [True] * 24)
    found = compare({"base": base, "tuned": tuned}, [metric("exact_match")]).difference("exact_match", "base")
    assert found is not None
    assert found.word == "no difference seen"
    assert found.rows_to_decide is not None
    size = 40 + found.rows_to_decide
    drawn = np.random.default_rng(4).multinomial(size, [0.25, 0.15, 0.6], size=600)
    seen = sum(intervals.bonett_price(int(up), int(down), size, 0.95).low > 0 for up, down, _ in drawn)
    assert 0.75 < seen / 600 < 0.88


def test_more_rows_decide_a_mean_four_times_out_of_five() -> None:
    """Paired differences of bits per byte; the rows come from the sample itself, so its difference is the true one."""
    draw = np.random.default_rng(5)
    base = draw.normal(4, 1, 50).clip(0.5)
    models = {
        "base": rows([True] * 50, base.tolist()),
        "tuned": rows([True] * 50, (base - draw.normal(0.04, 0.4, 50)).tolist()),
    }
    found = compare(models, [metric("bits_per_byte")]).difference("bits_per_byte", "base")
    assert found is not None
    assert found.word == "no difference seen"
    assert found.rows_to_decide is not None
    apart = np.array([ours.nll - theirs.nll for ours, theirs in zip(models["tuned"], models["base"], strict=True)])
    samples = draw.choice(apart, size=(600, 50 + found.rows_to_decide))
    errors = samples.std(axis=1, ddof=1) / math.sqrt(samples.shape[1])
    assert 0.74 < (np.abs(samples.mean(axis=1)) > 1.96 * errors).mean() < 0.86


def test_no_number_of_rows_decides_what_is_equal_or_decided_already() -> None:
    same = rows([True, False] * 20)
    equal = compare({"base": same, "tuned": same}, [metric("exact_match"), metric("perplexity")])
    assert [equal.difference(name, "base").rows_to_decide for name in equal.metrics] == [None, None]  # type: ignore[union-attr]
    decided = compare({"base": rows([False] * 40), "tuned": rows([True] * 40)}, [metric("exact_match")])
    assert decided.difference("exact_match", "base").rows_to_decide is None  # type: ignore[union-attr]


def test_estimates_have_two_digits() -> None:
    assert [more_rows(count) for count in (7, 42, 1234, 100001)] == ["7", "42", "1,300", "110,000"]
