from __future__ import annotations

import json

import pytest

from sartor import registry
from sartor.evaluate.compare import Comparison, compare
from sartor.evaluate.verdict import check, default_gates, judge, needed_rows
from sartor.protocols import Outcome
from sartor.recipe.schema import Gate


def comparison(count: int = 100, *, base: float = 0.2, tuned: float = 0.9, few_shot: float | None = None) -> Comparison:
    shares = {"base": base} | ({"few_shot": few_shot} if few_shot is not None else {}) | {"tuned": tuned}
    outcomes = {
        model: [
            Outcome(
                str(i),
                "?",
                "yes",
                "yes" if i < round(share * count) else "no",
                nll=9 - 8 * share + i % 3 / 10,
                tokens=4,
                bytes=3,
            )
            for i in range(count)
        ]
        for model, share in shares.items()
    }
    names = ("exact_match", "perplexity", "rougeL")
    return compare(outcomes, [registry.component("metric", name).METRIC for name in names])


def passes(result: Comparison, **gate: object) -> bool:
    metric = str(gate.pop("metric", "exact_match"))
    return judge([Gate.model_validate({"metric": metric, **gate})], result).passed


def test_at_least_and_at_most_are_decided_on_the_bound() -> None:
    result = comparison(tuned=0.9)
    score = result.score("exact_match", "tuned")
    assert score is not None
    assert score.low < 0.89 < 0.9 < 0.91 < score.high
    assert not passes(result, at_least=0.89)
    assert passes(result, at_least=score.low)
    assert not passes(result, at_least=score.low + 1e-9)
    assert not passes(result, at_most=0.91)
    assert passes(result, at_most=score.high)
    assert passes(result, metric="perplexity", at_most=2.0)


def test_confidence_of_the_gate_counts_not_that_of_the_comparison() -> None:
    result = comparison(tuned=0.9)
    limit = result.score("exact_match", "tuned", 0.6)
    assert limit is not None
    assert passes(result, at_least=limit.low, confidence=0.6)
    assert not passes(result, at_least=limit.low, confidence=0.99)


def test_better_than() -> None:
    assert passes(comparison(), better_than="base")
    assert passes(comparison(), metric="perplexity", better_than="base")
    assert not passes(comparison(base=0.9, tuned=0.2), better_than="base")
    assert not passes(comparison(base=0.9, tuned=0.2), metric="perplexity", better_than="base")
    assert not passes(comparison(base=0.5, tuned=0.52), better_than="base")
    assert passes(comparison(base=0.9, few_shot=0.1, tuned=0.5), better_than="few_shot")


def test_drop_at_most() -> None:
    same = comparison(base=0.5, tuned=0.5)
    assert passes(same, drop_at_most=0.05)
    assert not passes(same, drop_at_most=0.001)
    assert not passes(comparison(base=0.5, tuned=0.3), drop_at_most=0.05)
    assert passes(comparison(base=0.5, tuned=0.9), drop_at_most=0.0)
    assert passes(comparison(base=0.5, tuned=0.9), metric="perplexity", drop_at_most=0.0)
    assert not passes(comparison(base=0.9, tuned=0.5), metric="perplexity", drop_at_most=0.1)


def test_what_was_not_measured_fails_and_says_so() -> None:
    for gate in ({"metric": "bleu", "at_least": 0.0}, {"better_than": "few_shot"}):
        verdict = judge([Gate.model_validate({"metric": "exact_match", **gate})], comparison())
        assert not verdict.passed
        assert "not measured" in verdict.gates[0].note
        assert verdict.gates[0].value is None


def test_without_gates_the_main_metric_must_beat_the_base() -> None:
    assert judge([], comparison()).passed
    assert not judge([], comparison(base=0.9, tuned=0.9)).passed
    assert [gate.rule for gate in judge([], comparison()).gates] == ["better_than base"]
    assert default_gates(["bleu"], ["few_shot"]) == ()


def test_json_is_the_contract() -> None:
    gates = [Gate(metric="exact_match", at_least=0.5), Gate(metric="rougeL", better_than="base")]
    verdict = judge(gates, comparison(few_shot=0.4))
    body = json.loads(json.dumps(verdict.json(train={"steps": 3}, model="exports/model"), allow_nan=False))
    assert body.keys() >= {"pass", "gates", "scores", "train", "model"}
    assert body["pass"] is True
    assert body["gates"][0].keys() >= {"metric", "rule", "value", "low", "high", "pass"}
    assert body["scores"].keys() == {"base", "few_shot", "tuned"}
    assert body["scores"]["tuned"]["exact_match"] == 0.9
    assert body["train"] == {"steps": 3}


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (
            comparison(),
            "The tuned model is better than its base on 100 test rows it never saw: exact_match 20.0 % → 90.0 %.",
        ),
        (comparison(base=0.9, tuned=0.2), "The tuned model is worse than its base"),
        (comparison(base=0.5, tuned=0.5), "The tuned model is not seen to differ from its base"),
    ],
)
def test_sentence(result: Comparison, told: str) -> None:
    assert judge([], result).sentence.startswith(told)
    assert (
        "Failed 1 of 2 gates."
        in judge([Gate(metric="rougeL", at_least=0.0), Gate(metric="bleu", at_least=0)], result).sentence
    )


def test_gates_are_checked_before_training() -> None:
    gates = [
        Gate(metric="json_valid", at_least=0.98),
        Gate(metric="bleu", better_than="few_shot"),
        Gate(metric="x", at_most=1),
    ]
    problems = check(gates, against=["base"], metrics=["json_valid", "bleu"], rows=112)
    assert [problem.code for problem in problems] == ["R146", "R145", "R145"]
    assert problems[0].level == "warning"
    assert "189 test rows" in str(problems[0])
    assert check(gates[:1], against=["base"], metrics=["json_valid"], rows=189) == []
    assert needed_rows(1.0, 0.95) is None
