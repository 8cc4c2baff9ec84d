"""Metric values equal those of the library that the field trusts, on the same rows."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from sartor import registry
from sartor.metrics._words import words
from sartor.protocols import Outcome

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "on",
    "mat",
    "under",
    "tree",
    "quickly",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "and",
    "then",
    "it's",
    "over,",
    "again.",
    "No!",
]


def value(name: str, pairs: list[tuple[str, str]]) -> float:
    judge = registry.component("metric", name).METRIC
    rows = [Outcome(str(i), "", reference, prediction) for i, (prediction, reference) in enumerate(pairs)]
    return float(judge.combine(judge.stats(rows).sum(axis=0)))


@pytest.fixture
def texts() -> list[tuple[str, str]]:
    draw = random.Random(5)
    pairs = []
    for _ in range(60):
        reference = [draw.choice(WORDS) for _ in range(draw.randint(1, 25))]
        prediction = [word if draw.random() < 0.7 else draw.choice(WORDS) for word in reference]
        pairs.append((" ".join(prediction[: draw.randint(0, 30)]), " ".join(reference)))
    return [*pairs, ("", "something"), ("Ünïcode 東京!", "Ünicode 東京.")]


@pytest.fixture
def labels() -> list[tuple[str, str]]:
    draw = random.Random(6)
    return [(draw.choice("abcd"), draw.choice("aaabbc" if i else "d")) for i in range(200)]


def test_bleu_equals_sacrebleu(texts: list[tuple[str, str]]) -> None:
    from sacrebleu.metrics.bleu import BLEU

    for rows in (texts, texts[:1], texts[:7]):
        expected = BLEU().corpus_score([p for p, _ in rows], [[r for _, r in rows]]).score
        assert value("bleu", rows) == expected


def test_chrf_equals_sacrebleu(texts: list[tuple[str, str]]) -> None:
    from sacrebleu.metrics.chrf import CHRF

    for rows in (texts, texts[:1], texts[:7]):
        expected = CHRF().corpus_score([p for p, _ in rows], [[r for _, r in rows]]).score
        assert value("chrf", rows) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_equals_rouge_score(name: str, texts: list[tuple[str, str]]) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([name])
    plain = [(p, r) for p, r in texts if r.isascii() and p != r]
    assert len(plain) > 40
    expected = np.mean([scorer.score(r, p)[name].fmeasure for p, r in plain])
    assert value(name, plain) == pytest.approx(expected, rel=1e-12)


def test_rouge_words_cover_every_script() -> None:
    assert words("Café No.5, naïve_x") == ["café", "no", "5", "naïve", "x"]
    assert words("東京タワー") == ["東", "京", "タ", "ワ", "ー"]
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]


@pytest.mark.parametrize(
    ("name", "average"), [("macro_f1", "macro"), ("micro_f1", "micro"), ("precision", "macro"), ("recall", "macro")]
)
def test_classification_equals_scikit_learn(name: str, average: str, labels: list[tuple[str, str]]) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    guesses, truths = [p for p, _ in labels], [r for _, r in labels]
    found = precision_recall_fscore_support(truths, guesses, average=average, zero_division=0.0)
    expected = found[{"precision": 0, "recall": 1}.get(name, 2)]
    assert value(name, labels) == pytest.approx(expected, rel=1e-12)


def test_answers_that_are_no_label_are_misses_as_in_scikit_learn_with_the_true_labels() -> None:
    from sklearn.metrics import f1_score

    rows = [("a", "a"), ("what?", "a"), ("b", "b"), ("b", "a"), ("nonsense", "b")]
    expected = f1_score([r for _, r in rows], [p for p, _ in rows], labels=["a", "b"], average="macro")
    assert value("macro_f1", rows) == pytest.approx(expected, rel=1e-12)


def test_accuracy_equals_scikit_learn(labels: list[tuple[str, str]]) -> None:
    from sklearn.metrics import accuracy_score

    assert value("accuracy", labels) == accuracy_score([r for _, r in labels], [p for p, _ in labels])


def test_scored_label_wins_over_generated_text() -> None:
    judge = registry.component("metric", "accuracy").METRIC
    rows = [
        Outcome("1", "", "yes", prediction="no", label="yes"),
        Outcome("2", "", "yes", prediction="yes", label="no"),
    ]
    assert judge.stats(rows)[:, 0].tolist() == [1.0, 0.0]


def test_perplexity_and_bits_in_closed_form() -> None:
    rows = [Outcome("1", "", "ab", nll=2.0, tokens=4, bytes=2), Outcome("2", "", "abcd", nll=1.0, tokens=2, bytes=4)]
    for name, expected in (("perplexity", math.exp(3 / 6)), ("bits_per_byte", 3 / math.log(2) / 6)):
        judge = registry.component("metric", name).METRIC
        assert float(judge.combine(judge.stats(rows).sum(axis=0))) == pytest.approx(expected, rel=1e-12)


def test_perplexity_without_tokens_or_of_a_hopeless_model() -> None:
    judge = registry.component("metric", "perplexity").METRIC
    assert np.isnan(judge.combine(np.array([0.0, 0.0])))
    assert np.isfinite(judge.combine(np.array([1e9, 1.0])))


@pytest.mark.parametrize(
    ("prediction", "reference", "f1"),
    [
        ("in Paris", "Paris, France", 0.5),
        ("The Eiffel tower!", "eiffel tower", 1.0),
        ("", "x", 0.0),
        ("+", "-", 0.0),
        ("+", "+", 1.0),
    ],
)
def test_token_f1(prediction: str, reference: str, f1: float) -> None:
    assert value("token_f1", [(prediction, reference)]) == pytest.approx(f1)
    assert value("normalised_match", [(prediction, reference)]) == float(f1 == 1.0)


@pytest.mark.parametrize(
    ("prediction", "valid", "exact", "f1"),
    [
        ('{"a": 1, "b": {"c": "x", "d": []}}', 1, 1, 1),
        (' {"b": {"d": [], "c": "x"}, "a": 1.0}\n', 1, 1, 1),
        ('{"a": 1, "b": {"c": "y", "d": []}}', 1, 0, 2 / 3),
        ('{"a": true, "b": {"c": "x", "d": []}}', 1, 0, 2 / 3),
        ('{"a": 1}', 1, 0, 0.5),
        ("[1]", 0, 0, 0),
        ("12", 0, 0, 0),
        ('```json\n{"a": 1}\n```', 0, 0, 0),
        ('{"a": NaN}', 0, 0, 0),
        ("{'a': 1}", 0, 0, 0),
        ("[" * 3000 + "]" * 3000, 0, 0, 0),
        ("[" * 300 + "]" * 300, 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_json_metrics(prediction: str, valid: float, exact: float, f1: float) -> None:
    rows = [(prediction, '{"a": 1, "b": {"c": "x", "d": []}}')]
    assert value("json_valid", rows) == valid
    assert value("json_exact", rows) == exact
    assert value("field_f1", rows) == pytest.approx(f1)


def test_length_counts_both_directions() -> None:
    assert value("length", [("ab", "abcd"), ("abcdef", "abcd")]) == pytest.approx(0.5)
