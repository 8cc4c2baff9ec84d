"""What rows and further rows are worth, on a tiny model, from the command's function to its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest

from sartor.errors import InputError, Problem, RunError
from sartor.flow.data_augment import data_augment
from sartor.flow.job import begun
from sartor.flow.learning_curve import Curve, learning_curve
from sartor.flow.value import Valued, value


def quiet(event: object) -> None:
    """Shows nothing."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worth")
    model = job.save_model(folder / "model")
    body = job.recipe(model, goal={"task": "classify"}, evaluate={"metrics": ["accuracy"]}, method="full")
    return job.write(folder, body, job.labelled())


def valued(recipe: Path, out: Path, *overrides: str, **options: Any) -> Valued:
    return value(recipe, out, overrides, quiet, **{"count": 2, "epochs": 2, **options})


def test_every_training_row_is_judged_by_models_that_have_not_seen_it(recipe: Path, tmp_path: Path) -> None:
    found = valued(recipe, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out/value.jsonl").read_text().splitlines()]
    assert len(rows) == found.rows == len({row["row"] for row in rows})
    assert all(len(row["seen"]) == len(row["unseen"]) == 3 for row in rows)
    assert all(row["seen"][0] == pytest.approx(row["unseen"][0], rel=1e-3) for row in rows), (
        "before training nobody has"
    )
    assert [row["suspicion"] for row in rows] == sorted((row["suspicion"] for row in rows), reverse=True)
    assert found.held_out[-1] < found.held_out[0]
    assert found.json()["kinds"] == json.loads((tmp_path / "out/value.json").read_text())["kinds"]

    losses = (tmp_path / "out/fold-1/losses.columns").read_bytes()
    (tmp_path / "out/fold-1/losses.columns").unlink()
    again = valued(recipe, tmp_path / "out")
    assert (tmp_path / "out/fold-1/losses.columns").read_bytes() == losses
    assert again.json() == found.json()
    with pytest.raises(RunError, match="F102"):
        valued(recipe, tmp_path / "out", epochs=3)


def curve(recipe: Path, out: Path, **options: Any) -> Curve:
    chosen = {"sizes": (0.4, 0.7), "seeds": 1, "metric": None, **options}
    return learning_curve(recipe, out, (), quiet, **chosen)


def test_a_learning_curve_is_measured_on_validation_rows_and_goes_on_where_it_was(recipe: Path, tmp_path: Path) -> None:
    found = curve(recipe, tmp_path / "out")
    assert [point.rows for point in found.points] == sorted({point.rows for point in found.points})
    assert all(point.low <= point.value <= point.high for point in found.points)
    assert found.low <= found.gain <= found.high or found.low == pytest.approx(found.high, abs=0.2)
    assert f"twice the data ({2 * found.points[-1].rows:,} rows): accuracy" in found.sentence
    kept = next((tmp_path / "out").glob("rows-*/outcomes.jsonl"))
    before = kept.stat().st_mtime_ns
    assert curve(recipe, tmp_path / "out").json() == found.json()
    assert kept.stat().st_mtime_ns == before
    assert not (tmp_path / "out/data/test_accesses.json").exists(), "the test rows stay locked"


def test_what_cannot_be_measured_is_refused(recipe: Path, tmp_path: Path) -> None:
    for options, code in (({"sizes": (1.0,)}, "R106"), ({"metric": "bleu"}, "R105"), ({"sizes": (0.01, 0.5)}, "D115")):
        with pytest.raises(InputError, match=code):
            curve(recipe, tmp_path / "out", **options)


def test_a_folder_with_other_things_is_left_alone(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "verdict.json").write_text("{}")
    overrides = ["data.augment=[keyboard]"]
    for go in (valued, curve, lambda recipe, out: data_augment(recipe, out, overrides, quiet)):
        with pytest.raises(RunError, match="F102: this folder holds something else"):
            go(recipe, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["verdict.json"]


def test_refused_input_leaves_no_folder(recipe: Path, tmp_path: Path) -> None:
    for overrides in (["data.sources=[gone.jsonl]"], ["base=gone"]):
        with pytest.raises(InputError, match=r"D113|M100"):
            valued(recipe, tmp_path / "out", *overrides)
    with pytest.raises(InputError, match="D113"):
        data_augment(recipe, tmp_path / "out", ["data.augment=[keyboard]", "data.sources=[gone.jsonl]"], quiet)
    assert not (tmp_path / "out").exists()


def refused(folder: Path) -> None:
    """A job whose input is refused after a model has answered."""
    with begun(folder):
        (folder / "answers.jsonl").write_text("{}\n")
        raise RunError(Problem("F102", "refused"))


def test_what_models_have_answered_is_kept_when_the_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        refused(tmp_path / "out")
    with begun(tmp_path / "out"):
        assert (tmp_path / "out" / "answers.jsonl").exists()
