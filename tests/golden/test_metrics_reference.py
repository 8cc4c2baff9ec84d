"""Metric values equal those of the library that the field trusts, on the same rows."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import measured
import numpy as np
import pytest

from sartor import registry
from sartor.metrics._edits import distance
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


def value(name: str, pairs: list[tuple[str, str]], **options: Any) -> float:
    judge = measured.made(name, options)
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


def test_ter_equals_sacrebleu(texts: list[tuple[str, str]]) -> None:
    from sacrebleu.metrics.ter import TER

    moved = [("b c a", "a b c"), ("", ""), ("x", "")]
    for rows in (texts, texts[:1], [*texts[:7], *moved], moved[1:]):
        expected = TER().corpus_score([p for p, _ in rows], [[r for _, r in rows]]).score
        assert value("ter", rows) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("unit", ["character", "word"])
def test_edit_distance_equals_nltk(unit: str, texts: list[tuple[str, str]]) -> None:
    from nltk.metrics.distance import edit_distance

    rows = [(p.strip(), r.strip()) for p, r in texts]
    cut = [(p.split(), r.split()) if unit == "word" else (p, r) for p, r in rows]
    expected = sum(edit_distance(p, r) for p, r in cut) / sum(len(r) for _, r in cut)
    assert value("edit_distance", rows, unit=unit) == pytest.approx(expected, rel=1e-12)


def test_edits_equal_nltk_on_short_texts_of_few_letters() -> None:
    from nltk.metrics.distance import edit_distance

    draw = random.Random(11)
    for _ in range(300):
        one, other = ("".join(draw.choices("ab", k=draw.randrange(9))) for _ in range(2))
        assert distance(one, other) == edit_distance(one, other)


def test_byte_perplexity_is_two_to_the_bits() -> None:
    rows = [Outcome("1", "", "ab", nll=2.0, tokens=4, bytes=2), Outcome("2", "", "abcd", nll=1.0, tokens=2, bytes=4)]
    judge = registry.component("metric", "byte_perplexity").METRIC
    found = float(judge.combine(judge.stats(rows).sum(axis=0)))
    assert found == pytest.approx(math.exp(3 / 6), rel=1e-12)
    bits = registry.component("metric", "bits_per_byte").METRIC
    assert found == pytest.approx(2 ** float(bits.combine(bits.stats(rows).sum(axis=0))), rel=1e-12)


def test_details_of_labels_equal_scikit_learn_and_scipy(labels: list[tuple[str, str]]) -> None:
    from scipy.stats import binomtest
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truths, guesses = [r for _, r in labels], [p for p, _ in labels]
    rows = [Outcome(str(i), "", r, p) for i, (p, r) in enumerate(labels)]
    each, taken = measured.made("macro_f1").details(rows, 0.9)
    expected = precision_recall_fscore_support(truths, guesses, zero_division=np.nan, labels=list("abcd"))
    found = {(label, score): (shown, low, high, n) for label, score, shown, low, high, n in each.rows}
    for place, label in enumerate("abcd"):
        for kind, score in enumerate(("precision", "recall", "F1")):
            assert found[label, score][0] == pytest.approx(expected[kind][place], rel=1e-12)
        assert found[label, "recall"][3] == expected[3][place]
        hits = sum(t == g == label for t, g in zip(truths, guesses, strict=True))
        for score, shown in (("recall", lambda j: j), ("precision", lambda j: j), ("F1", lambda j: 2 * j / (1 + j))):
            _, low, high, n = found[label, score]
            interval = binomtest(hits, n).proportion_ci(0.9, method="wilson")
            assert (low, high) == pytest.approx((shown(interval.low), shown(interval.high)), abs=1e-12)
    matrix = confusion_matrix(truths, guesses, labels=list("abcd"))
    assert [list(row[1:-1]) for row in taken.rows] == matrix.tolist()
    assert [row[-1] for row in taken.rows] == [0, 0, 0, 0]


def test_many_labels_are_shown_as_pairs_and_other_answers_as_none() -> None:
    rows = [Outcome(str(i), "", f"c{i % 20}", f"c{i % 20 // 2 * 2}" if i else "what?") for i in range(60)]
    _, taken = measured.made("recall").details(rows, 0.95)
    assert taken.columns == ("right", "given", "rows")
    assert taken.rows[0] == ("c1", "c0", 3)
    assert ("c0", "(none of them)", 1) in taken.rows
    assert sum(int(row[2] or 0) for row in taken.rows) == 31


@pytest.mark.parametrize("n", [1, 2, 3])
def test_diversity_is_distinct_n_and_is_resampled_without_bias(n: int, texts: list[tuple[str, str]]) -> None:
    rows = [(p, r) for p, r in texts if p]
    runs = [tuple(found[i : i + n]) for p, _ in rows for found in [words(p)] for i in range(len(found) - n + 1)]
    assert value("diversity", rows, n=n) == pytest.approx(len(set(runs)) / len(runs), rel=1e-12)
    judge = measured.made("diversity", {"n": n})
    stats = judge.stats([Outcome(str(i), "", r, p) for i, (p, r) in enumerate(rows)])
    draws = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=4000)
    assert judge.combine(draws @ stats).mean() == pytest.approx(value("diversity", rows, n=n), abs=0.01)


def test_repetition_in_closed_form() -> None:
    assert value("repetition", [("to be to be to be", "")], n=2) == pytest.approx(3 / 5)
    assert value("repetition", [("to be to be to be", ""), ("one two three", "")], n=2) == pytest.approx(3 / 10)
    assert value("repetition", [("la la la", "")]) == 0


@pytest.mark.parametrize(
    ("prediction", "valid"),
    [
        ('{"queue": "a", "level": 2}', 1),
        ('{"queue": "a"}', 1),
        ('{"queue": 3}', 0),
        ('{"queue": "a", "level": 9}', 0),
        ('{"queue": "a", "more": 1}', 0),
        ('Sure: {"queue": "a"}', 0),
        ("[]", 0),
    ],
)
def test_json_schema_equals_jsonschema(prediction: str, valid: int) -> None:
    from jsonschema import Draft202012Validator

    schema = {
        "type": "object",
        "properties": {"queue": {"$ref": "#/$defs/name"}, "level": {"maximum": 5}},
        "required": ["queue"],
        "additionalProperties": False,
        "$defs": {"name": {"type": "string"}},
    }
    assert value("json_schema", [(prediction, "")], inline=schema) == valid
    if not prediction.startswith("Sure"):
        assert Draft202012Validator(schema).is_valid(json.loads(prediction)) == bool(valid)
