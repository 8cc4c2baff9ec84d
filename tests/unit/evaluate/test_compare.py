from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from sartor import registry
from sartor.evaluate.compare import Comparison, compare, detectable
from sartor.protocols import Metric, Outcome


def metric(name: str) -> Metric:
    found: Metric = registry.component("metric", name).METRIC
    return found


def rows(answers: list[str], reference: str = "yes", nll: float = 2.0) -> list[Outcome]:
    return [
        Outcome(f"data.jsonl:{i + 1}", f"question {i}", reference, answer, nll=nll + i % 3, tokens=4, bytes=3)
        for i, answer in enumerate(answers)
    ]


def planted(count: int, base: float, tuned: float, few_shot: float | None = None) -> dict[str, list[Outcome]]:
    """Models that are right on the first share of rows."""
    shares = {"base": base} | ({"few_shot": few_shot} if few_shot is not None else {}) | {"tuned": tuned}
    return {
        name: rows(["yes" if i < round(share * count) else "no" for i in range(count)])
        for name, share in shares.items()
    }


def test_scores_differences_and_words() -> None:
    result = compare(planted(100, 0.2, 0.9, few_shot=0.85), [metric("exact_match"), metric("rougeL")])
    assert result.subject == "tuned"
    for name in result.metrics:
        assert result.score(name, "base").value == pytest.approx(0.2)  # type: ignore[union-attr]
        found = result.difference(name, "base")
        assert found is not None
        assert found.value == pytest.approx(0.7)
        assert found.low < 0.7 < found.high
        assert found.word == "better"
        assert found.p < 0.01
    near = result.difference("exact_match", "few_shot")
    assert near is not None
    assert near.test == "McNemar"
    far = result.difference("rougeL", "few_shot", confidence=0.9999)
    assert far is not None
    assert far.low < near.low


def test_lower_is_better_turns_the_word_not_the_sign() -> None:
    base = rows(["x"] * 50, nll=6.0)
    tuned = [replace(row, nll=row.nll - 2.0 - 0.01 * (i % 7)) for i, row in enumerate(base)]
    better = compare({"base": base, "tuned": tuned}, [metric("perplexity")]).difference("perplexity", "base")
    worse = compare({"base": tuned, "tuned": base}, [metric("perplexity")]).difference("perplexity", "base")
    assert better is not None
    assert worse is not None
    assert better.value < 0
    assert better.high < 0
    assert better.word == "better"
    assert worse.word == "worse"
    assert better.low == pytest.approx(-worse.high, rel=0.05)


def test_pairing_sees_what_separate_intervals_cannot() -> None:
    """Every row is a little better although rows differ widely."""
    draw = random.Random(0)
    base = [replace(row, nll=draw.uniform(0, 40)) for row in rows(["x"] * 60)]
    tuned = [replace(row, nll=row.nll * 0.95) for row in base]
    result = compare({"base": base, "tuned": tuned}, [metric("bits_per_byte")])
    ours, theirs = result.score("bits_per_byte", "tuned"), result.score("bits_per_byte", "base")
    assert ours is not None
    assert theirs is not None
    assert ours.high > theirs.low
    found = result.difference("bits_per_byte", "base")
    assert found is not None
    assert found.word == "better"


def test_no_difference_between_equals() -> None:
    same = rows(["yes", "no"] * 20)
    result = compare({"base": same, "tuned": same}, [metric("exact_match"), metric("rougeL"), metric("perplexity")])
    for name in result.metrics:
        found = result.difference(name, "base")
        assert found is not None
        assert found.value == 0
        assert found.low <= 0 <= found.high
        assert found.word == "no difference seen"
        assert found.p == 1.0


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Two models that are equally good: at most about one comparison in twenty may call one better."""
    draw = np.random.default_rng(5)
    alarms = 0
    for trial in range(150):
        drawn = draw.normal(5, 2, size=(2, 40)).clip(0.1)
        base = [replace(row, nll=float(value)) for row, value in zip(rows(["x"] * 40), drawn[0], strict=True)]
        tuned = [replace(row, nll=float(value)) for row, value in zip(base, drawn[1], strict=True)]
        result = compare({"base": base, "tuned": tuned}, [metric("perplexity")], resamples=400, seed=trial)
        found = result.difference("perplexity", "base")
        assert found is not None
        alarms += found.word != "no difference seen"
    assert alarms / 150 <= 0.10


def test_same_seed_same_result_whatever_the_order_of_a_models_rows() -> None:
    models = planted(30, 0.3, 0.6)
    shuffled = {**models, "tuned": random.Random(1).sample(models["tuned"], 30)}
    metrics = [metric("rougeL"), metric("macro_f1")]
    assert compare(models, metrics, seed=3).json() == compare(shuffled, metrics, seed=3).json()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_rows_are_flagged_and_prove_little(count: int) -> None:
    result = compare(
        planted(count, 0, 1), [metric("exact_match"), metric("bleu"), metric("macro_f1"), metric("perplexity")]
    )
    assert result.small
    assert json.loads(json.dumps(result.json(), allow_nan=False))["small"] is True
    if count < 3:
        found = result.difference("exact_match", "base")
        assert found is not None
        assert found.word == "no difference seen"


def test_missing_models_and_measurements_are_left_out() -> None:
    models = planted(20, 0.1, 0.9, few_shot=0.5)
    models["few_shot"] = [replace(row, nll=0.0, tokens=0) for row in models["few_shot"]]
    result = compare(models, [metric("perplexity"), metric("exact_match")])
    assert result.score("perplexity", "few_shot") is None
    assert result.difference("perplexity", "few_shot") is None
    assert result.difference("perplexity", "base") is not None
    assert result.difference("exact_match", "few_shot") is not None
    alone = compare({"tuned": models["tuned"]}, [metric("exact_match")])
    assert alone.difference("exact_match", "base") is None
    assert alone.flips is None
    silent = [replace(row, prediction=None) for row in models["base"]]
    assert compare({"base": silent}, [metric("bleu")]).score("bleu", "base") is None


def test_models_on_different_rows_are_refused() -> None:
    models = planted(10, 0, 1)
    for wrong in (models["tuned"][:9], models["tuned"][:9] + models["tuned"][:1], []):
        with pytest.raises(ValueError, match="rows"):
            compare({"base": models["base"], "tuned": wrong}, [metric("exact_match")])
    with pytest.raises(ValueError, match="no rows"):
        compare({"base": []}, [metric("exact_match")])


def test_detectable_difference_is_known_from_the_base_alone() -> None:
    models = planted(112, 0.1, 0.9)
    metrics = [metric("exact_match"), metric("perplexity"), metric("field_f1")]
    before = detectable(models["base"], metrics)
    result = compare(models, metrics)
    assert before == {name: result.detectable(name) for name in metrics_names(result)}
    assert 0.05 < before["exact_match"] < 0.15
    never = detectable(rows(["no"] * 40), metrics)
    assert never["exact_match"] > 0.03
    assert never["field_f1"] > 0.03
    assert detectable(rows(["no"] * 400), metrics)["exact_match"] < never["exact_match"]


def metrics_names(result: Comparison) -> tuple[str, ...]:
    return result.metrics


def test_flips_of_right_and_wrong() -> None:
    base = rows(["yes"] * 3 + ["no"] * 17)
    tuned = rows(["yes", "yes", "no"] + ["yes"] * 15 + ["no"] * 2)
    flips = compare({"base": base, "tuned": tuned}, [metric("exact_match")]).flips
    assert flips is not None
    assert flips.decided
    assert (flips.better_count, flips.worse_count) == (15, 1)
    assert [flip.id for flip in flips.worse] == ["data.jsonl:3"]
    assert (flips.worse[0].before, flips.worse[0].after) == ("yes", "no")
    assert len(flips.better) == 12


def test_flips_of_perplexity_are_the_largest_changes() -> None:
    base = rows(["x"] * 20, nll=4.0)
    tuned = [replace(row, nll=row.nll + (3.0 if i == 7 else -0.1 * i)) for i, row in enumerate(base)]
    flips = compare({"base": base, "tuned": tuned}, [metric("perplexity"), metric("exact_match")]).flips
    assert flips is not None
    assert not flips.decided
    assert [flip.id for flip in flips.worse] == ["data.jsonl:8"]
    gains = [flip.score_before - flip.score_after for flip in flips.better]
    assert gains == sorted(gains, reverse=True)


def test_json_is_plain_and_finite() -> None:
    text = json.dumps(compare(planted(25, 0, 1), [metric("bleu"), metric("accuracy")]).json(), allow_nan=False)
    body = json.loads(text)
    assert [entry["name"] for entry in body["metrics"]] == ["bleu", "accuracy"]
    assert body["metrics"][1]["share"] is True
    assert set(body["metrics"][0]["differences"]) == {"base"}


def test_a_perfect_or_hopeless_result_is_not_certainty_whatever_the_metric() -> None:
    wrong = rows(["no"] * 20, reference='{"a": 1}')
    right = rows(['{"a": 1}'] * 20, reference='{"a": 1}')
    result = compare({"base": wrong, "tuned": right}, [metric("field_f1"), metric("macro_f1")])
    for name in result.metrics:
        best, worst = result.score(name, "tuned"), result.score(name, "base")
        assert best is not None
        assert worst is not None
        assert (best.value, worst.value) == (1.0, 0.0)
        assert best.low == pytest.approx(0.839, abs=0.001)
        assert worst.high == pytest.approx(0.161, abs=0.001)
    half = [replace(row, prediction='{"a": 1, "b": 2, "c": 3}') for row in right]
    steady = compare({"base": half}, [metric("field_f1")]).score("field_f1", "base")
    assert steady is not None
    assert steady.low == steady.value == steady.high == 0.5
