"""Every metric in the registry keeps the promises that the comparison relies on; a new file is covered at once."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import measured
import numpy as np
import pytest

from sartor import registry
from sartor.evaluate.metrics import takes_options
from sartor.options import Options
from sartor.protocols import Detailed, Metric, Outcome

NAMES = registry.names("metric")

REFERENCES = [
    ("refund", "refuse"),
    ('{"queue": "billing", "tags": ["late", "card"]}', '{"queue": "billing", "tags": ["late"]'),
    ("The cat sat on the mat.", "A cat is on a mat today."),
    ("Grüße aus 東京, до свидания", "Grüße aus 大阪"),
    ("42", "41"),
    ("a", ""),
    ("yes", "no, because nothing of this is so"),
    ("one two three four five six", "one two three four nine ten"),
]


NUMBERS = [(3.0, 1.0), (4.5, 4.0), (-2.0, 6.0), (0.0, -1.0), (10.0, 2.0), (7.0, 6.5), (1.5, 9.0), (2.0, 2.5)]
TAGS = ["B-PER", "I-PER", "O"]
UNDEFINED = ("pearson", "spearman")
"""Of one row alone they say nothing."""
FIXED = ("diversity",)
"""Resampled with what each row counts in the whole set, so that a row drawn twice is not taken for two rows."""


def outcomes(*, perfect: bool, needs: str = "prediction") -> list[Outcome]:
    if needs == "value":
        return [
            Outcome(id=str(index), prompt="?", reference=str(right), value=right if perfect else wrong)
            for index, (right, wrong) in enumerate(NUMBERS)
        ]
    if needs == "probabilities":
        return [_scored(index, perfect=perfect) for index in range(len(REFERENCES))]
    if needs == "answers":
        return [
            Outcome(
                id=str(index),
                prompt="?",
                reference="",
                ratings=(1.0, 0.0),
                scores=(-4.0, -5.0 - index) if perfect else (-5.0 - index, -4.0 - index % 2),
                lengths=(3, 3),
            )
            for index in range(len(REFERENCES))
        ]
    if needs == "tags":
        return [
            Outcome(
                id=str(index),
                prompt="?",
                reference=" ".join(TAGS),
                right_tags=TAGS,
                tags=TAGS if perfect else TAGS[:1] * 3,
            )
            for index in range(len(REFERENCES))
        ]
    return [
        Outcome(
            id=str(index),
            prompt="?",
            reference=right,
            prediction=right if perfect else wrong,
            nll=0.0 if perfect else 7.0,
            tokens=5,
            bytes=len(right.encode()),
            stopped=perfect,
        )
        for index, (right, wrong) in enumerate(REFERENCES)
    ]


def _scored(index: int, *, perfect: bool) -> Outcome:
    """Two labels; a poor model is sure of the wrong one."""
    right, other = ("no", "yes") if index % 3 else ("yes", "no")
    label = right if perfect else other
    sure = 0.0 if perfect else -0.1 - index / 50
    return Outcome(
        id=str(index),
        prompt="?",
        reference=right,
        label=label,
        label_scores={
            label: sure,
            right if label == other else other: -30.0 if perfect else float(np.log(-np.expm1(sure))),
        },
    )


def answered(name: str, *, perfect: bool) -> list[Outcome]:
    """What a perfect or a poor model answers, as this metric sees it."""
    rows = outcomes(perfect=perfect, needs=metric(name).needs)
    special = measured.SPECIAL.get(name)
    if special is None:
        return rows
    return [(special.good if perfect else special.poor)(row) for row in rows]


@cache
def metric(name: str) -> Metric:
    return measured.made(name)


def value(metric: Metric, rows: list[Outcome]) -> float:
    return float(metric.combine(metric.stats(rows).sum(axis=0)))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_expected_metrics_exist() -> None:
    assert set(NAMES) >= {
        "accuracy", "bits_per_byte", "bleu", "chrf", "exact_match", "field_f1", "json_exact", "json_valid", "length",
        "macro_f1", "micro_f1", "normalised_match", "perplexity", "precision", "recall", "rouge1", "rouge2", "rougeL",
        "stop_rate", "token_f1",
    }  # fmt: skip


def test_module_offers_options_and_the_metric_of_its_file_name(name: str) -> None:
    module = registry.component("metric", name)
    assert issubclass(module.Options, Options)
    assert module.__doc__
    assert takes_options(module) != hasattr(module, "METRIC")
    assert takes_options(module) == bool(module.Options.model_fields)
    assert isinstance(metric(name), Metric)
    assert metric(name).name == name
    assert metric(name).needs in {"prediction", "label", "nll", "value", "probabilities", "tags", "answers"}


def test_perfect_answers_are_best(name: str) -> None:
    judge = metric(name)
    best, poor = (value(judge, answered(name, perfect=perfect)) for perfect in (True, False))
    assert (best > poor) if judge.higher_is_better else (best < poor)
    limit = measured.BEST.get(name, 1 if judge.higher_is_better else 0)
    if name != "json_valid" and "margin" not in name:
        assert best == pytest.approx(limit)


def mixed(name: str, poor: int) -> list[Outcome]:
    """Some rows of a poor model, the others of a perfect one."""
    return answered(name, perfect=False)[:poor] + answered(name, perfect=True)[poor:]


def test_order_of_rows_does_not_matter(name: str) -> None:
    judge, rows = metric(name), mixed(name, 4)
    shuffled = random.Random(3).sample(rows, len(rows))
    assert value(judge, shuffled) == pytest.approx(value(judge, rows), abs=1e-12)


def test_sums_of_statistics_give_the_value_of_the_rows_together(name: str) -> None:
    """A row counted twice by its weight is the row present twice, and a leading axis is only more of the same."""
    judge, rows = metric(name), mixed(name, 5)
    stats = judge.stats(rows)
    assert stats.shape[0] == len(rows)
    assert stats.dtype == np.float64
    weights = np.array([[1, 1, 1, 1, 1, 1, 1, 1], [2, 0, 1, 3, 0, 1, 0, 1]], dtype=float)
    repeated = [row for row, times in zip(rows, weights[1], strict=True) for _ in range(int(times))]
    together = judge.combine(weights @ stats)
    assert together.shape == (2,)
    assert together[0] == pytest.approx(value(judge, rows))
    if name not in FIXED:
        assert together[1] == pytest.approx(value(judge, repeated))
    assert judge.combine(np.stack([weights @ stats] * 3)).shape == (3, 2)


def test_empty_answers_are_finite(name: str) -> None:
    judge = metric(name)
    if judge.needs == "answers":
        return
    asked = outcomes(perfect=False, needs=judge.needs if judge.needs == "value" else "prediction")
    asked = [measured.beside(row) for row in asked]
    if judge.needs == "probabilities":
        asked = [replace(row, reference=row.reference[:0] + "yes" * (index % 2)) for index, row in enumerate(asked)]
    for prediction in ("", None):
        rows = [replace(row, prediction=prediction, value=None) for row in asked]
        assert np.isfinite(value(judge, rows))
        assert name in UNDEFINED or np.isfinite(judge.combine(judge.stats(rows))).all()
    single = [replace(asked[0], reference="0" * (judge.needs == "value"), prediction="")]
    assert np.isfinite(value(judge, single)) or name in ("bleu", *UNDEFINED)


def test_no_rows_give_no_crash(name: str) -> None:
    assert metric(name).stats([]).shape[0] == 0


def test_details_are_tables_of_the_rows(name: str) -> None:
    judge, rows = metric(name), mixed(name, 5)
    if not isinstance(judge, Detailed):
        return
    tables = judge.details(rows, 0.95)
    assert tables
    for table in tables:
        assert table.title
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert judge.details([], 0.95) == () or not any(table.rows for table in judge.details([], 0.95))
