"""The order of rows by a curriculum, and a course that is kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sartor.data.mixture import Mixture
from sartor.tokens.batch import Rendered
from sartor.tokens.course import BUCKETS, PLAIN, Course
from sartor.tokens.source import StepSize, TokenSource
from sartor.tokens.store import TokenSet


def test_a_plain_course_is_a_permutation_of_all_rows() -> None:
    orders = [PLAIN.order(30, 4, epoch) for epoch in (0, 0, 1)]
    assert orders[0].tolist() == orders[1].tolist()
    assert orders[0].tolist() != orders[2].tolist()
    assert sorted(orders[2].tolist()) == list(range(30))


def test_a_curriculum_goes_up_in_shuffled_tenths() -> None:
    difficulty = np.random.default_rng(0).normal(size=200)
    course = Course(difficulty=difficulty, sorted_epochs=1)
    first, second = (difficulty[course.order(200, 4, epoch)].reshape(BUCKETS, -1) for epoch in (0, 1))
    assert (first[:-1].max(axis=1) <= first[1:].min(axis=1)).all()
    assert (np.diff(first, axis=1) < 0).any(), "shuffled within a tenth"
    assert (second[:-1].max(axis=1) > second[1:].min(axis=1)).any(), "shuffled whole"


def test_a_course_is_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    mixture = Mixture(rng.integers(3, 9, 40), np.arange(40) % 3, np.array([40.0, 90.0, 10.0]), 6)
    for course in (PLAIN, Course(mixture, rng.random(40), 2, rng.random(40).astype(np.float32))):
        course.write(tmp_path / "course.columns")
        back = Course.open(tmp_path / "course.columns")
        for epoch in range(4):
            assert back.order(40, 3, epoch).tolist() == course.order(40, 3, epoch).tolist()
        assert (back.scale is None) == (course.scale is None)
        assert back.scale is None or (back.scale == course.scale).all()


def test_a_scale_weighs_the_rows_of_a_step(tmp_path: Path) -> None:
    rows = TokenSet.write(
        (Rendered(np.arange(4), np.array([0, 1, 1, 0.5], np.float32), row) for row in range(6)), tmp_path
    )
    scale = np.arange(6, dtype=np.float32)
    source = TokenSource(rows, size=StepSize(examples=6), micro_tokens=100, seed=1, course=Course(scale=scale))
    (batch,) = source.take().batches
    by_row = np.zeros(6)
    np.add.at(by_row, np.array(batch.rows)[batch.row.numpy()], batch.weight.numpy())
    assert by_row.tolist() == (2.5 * scale).tolist()
