"""Metrics of numbers, probabilities and tags against scipy and scikit-learn, on samples with ties, and under row weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from sartor import registry
from sartor.errors import InputError
from sartor.protocols import Metric, Outcome


def metric(name: str) -> Metric:
    found: Metric = registry.component("metric", name).METRIC
    return found


def weighted(name: str, rows: list[Outcome], weights: np.ndarray) -> float:
    judge = metric(name)
    return float(judge.combine(weights @ judge.stats(rows)))


def numbers(seed: int, count: int = 40, *, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray, list[Outcome]]:
    draw = np.random.default_rng(seed)
    right = draw.integers(0, 6, count) / 2 + offset
    given = np.round(right + draw.normal(0, 1, count), 1)
    rows = [
        Outcome(id=str(i), prompt="?", reference=repr(float(r)), value=float(v))
        for i, (r, v) in enumerate(zip(right, given, strict=True))
    ]
    return right, given, rows


REFERENCES = {
    "rmse": lambda right, given: np.sqrt(sk.mean_squared_error(right, given)),
    "mae": sk.mean_absolute_error,
    "pearson": lambda right, given: stats.pearsonr(right, given).statistic,
    "spearman": lambda right, given: stats.spearmanr(right, given).statistic,
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_metrics_of_numbers(name: str, offset: float) -> None:
    for seed in range(5):
        right, given, rows = numbers(seed, offset=offset)
        draw = np.random.default_rng(seed).integers(0, 4, len(rows))
        for weights in (np.ones(len(rows)), draw):
            expected = REFERENCES[name](np.repeat(right, weights.astype(int)), np.repeat(given, weights.astype(int)))
            assert weighted(name, rows, weights.astype(float)) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_a_constant_is_correlated_with_nothing(name: str) -> None:
    _, _, rows = numbers(0)
    constant = [Outcome(id=row.id, prompt="?", reference=row.reference, value=2.3) for row in rows]
    assert weighted(name, constant, np.ones(len(rows))) == 0.0


def test_a_text_says_its_first_number_and_counts_as_the_mean_without_one() -> None:
    told = ["about 3.5 of 5", "−2", "1e1", "none", ""]
    rows = [Outcome(id=str(i), prompt="?", reference=str(i), prediction=text) for i, text in enumerate(told)]
    given = np.array([3.5, -2, 10, 2, 2])
    assert weighted("rmse", rows, np.ones(5)) == pytest.approx(np.sqrt(np.mean((given - np.arange(5)) ** 2)))
    with pytest.raises(InputError, match="E104"):
        metric("rmse").stats([Outcome(id="7", prompt="?", reference="red", value=1.0)])


def labels(seed: int, names: list[str], count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Outcome]]:
    """(right, given, [n, k] probabilities with ties, outcomes)"""
    draw = np.random.default_rng(seed)
    right = draw.choice(names, count)
    logits = np.round(draw.normal(0, 1, (count, len(names))) + 1.2 * (right[:, None] == np.array(names)), 1)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = np.array(names)[shares.argmax(axis=1)]
    rows = [
        Outcome(id=str(i), prompt="?", reference=str(right[i]), label=str(given[i]),
                label_scores=dict(zip(names, np.log(shares[i]).tolist(), strict=True)))
        for i in range(count)
    ]  # fmt: skip
    return right, given, shares, rows


def test_area_under_the_curve() -> None:
    for seed in range(5):
        right, _, shares, rows = labels(seed, ["no", "yes"])
        weights = np.random.default_rng(seed).integers(0, 3, len(rows))
        found = weighted("auroc", rows, weights.astype(float))
        assert found == pytest.approx(
            sk.roc_auc_score(right == "yes", np.round(shares[:, 1], 9), sample_weight=weights)
        )
    with pytest.raises(InputError, match="E105"):
        metric("auroc").stats(labels(0, ["a", "b", "c"])[3])


@pytest.mark.parametrize("names", [["no", "yes"], ["a", "b", "c", "d"]])
def test_matthews_correlation(names: list[str]) -> None:
    for seed in range(5):
        right, given, _, rows = labels(seed, names)
        weights = np.random.default_rng(seed).integers(0, 3, len(rows))
        found = weighted("mcc", rows, weights.astype(float))
        assert found == pytest.approx(sk.matthews_corrcoef(right, given, sample_weight=weights))
    always = [Outcome(id=str(i), prompt="?", reference=str(r), label=names[0]) for i, r in enumerate(right)]
    assert weighted("mcc", always, np.ones(len(always))) == 0.0


def test_calibration_error_written_out() -> None:
    """15 bins (b/15, (b+1)/15]: sum over bins of |sum of confidence - sum of right| / n."""
    right, given, shares, rows = labels(3, ["a", "b", "c"], 400)
    confidence, hit = shares.max(axis=1), right == given
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        expected += abs(confidence[inside].sum() - hit[inside].sum()) / 400
    assert weighted("ece", rows, np.ones(400)) == pytest.approx(expected)


def test_several_labels_are_counted_each_by_itself() -> None:
    draw = np.random.default_rng(0)
    names = ["a", "b", "c"]
    right, given = (draw.random((30, 3)) < 0.4 for _ in range(2))
    listed = [[n for n, there in zip(names, line, strict=True) if there] for line in (*right, *given)]
    rows = [
        Outcome(
            id=str(i),
            prompt="?",
            reference=", ".join(listed[i]) or "none",
            right_labels=listed[i],
            labels=listed[30 + i],
        )
        for i in range(30)
    ]
    for average in ("micro", "macro"):
        expected = sk.f1_score(right, given, average=average)
        assert weighted(f"{average}_f1", rows, np.ones(30)) == pytest.approx(expected)
    assert weighted("accuracy", rows, np.ones(30)) == pytest.approx(sk.accuracy_score(right, given))
    written = [Outcome(id=row.id, prompt="?", reference=row.reference, right_labels=row.right_labels,
                       prediction=", ".join(row.labels or []) or "none") for row in rows]  # fmt: skip
    assert weighted("accuracy", written, np.ones(30)) == pytest.approx(sk.accuracy_score(right, given))
    assert weighted("micro_f1", written, np.ones(30)) == pytest.approx(sk.f1_score(right, given, average="micro"))


@pytest.mark.parametrize(
    ("right", "given", "expected"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", 1.0),
        ("B-PER I-PER O B-LOC", "B-PER O O B-LOC", 0.5),
        ("B-PER I-PER", "B-PER B-PER", 0.0),
        ("B-PER B-PER", "B-PER B-PER", 1.0),
        ("I-PER I-PER O", "B-PER I-PER O", 1.0),
        ("B-PER I-LOC", "B-PER B-LOC", 1.0),
        ("O O", "O O", 1.0),
        ("O O", "O B-PER", 0.0),
        ("PER PER O", "PER PER O", 1.0),
        ("S-PER B-LOC E-LOC", "S-PER B-LOC O", 0.5),
    ],
)
def test_names_are_found_whole(right: str, given: str, expected: float) -> None:
    row = Outcome(id="1", prompt="?", reference=right, right_tags=right.split(), tags=given.split())
    assert weighted("tag_f1", [row], np.ones(1)) == pytest.approx(expected)
    assert weighted("tag_accuracy", [row], np.ones(1)) == pytest.approx(
        np.mean(np.array(right.split()) == np.array(given.split()))
    )
