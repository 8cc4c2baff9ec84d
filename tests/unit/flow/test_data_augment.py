from __future__ import annotations

import io
import json
from pathlib import Path

import job
import numpy as np
import pytest
import yaml
from rich.console import Console
from scipy.stats import bootstrap

from sartor.errors import DataError, RecipeError
from sartor.events import Event, Started
from sartor.flow.augment_gain import Gain, _compared
from sartor.flow.data_augment import ROWS, compared, data_augment
from sartor.flow.data_check import data_check
from sartor.recipe.load import load

ROWS_IN = [{**row, "prompt": f"Please kindly deliver {row['prompt']}"} for row in job.orders()]


def quiet(event: object) -> None:
    """Shows nothing."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("augment")
    body = job.recipe(job.save_model(folder / "model"))
    body["data"]["augment"] = [{"keyboard": {"rate": 0.5}}, {"counterfactual": {"attribute": "age"}}]
    return job.write(folder, body, ROWS_IN)


def test_rows_are_written_with_parents_and_shown(recipe: Path, tmp_path: Path) -> None:
    result = data_augment(recipe, tmp_path / "out", [], quiet, show=1)
    lines = [json.loads(line) for line in (tmp_path / "out" / ROWS).read_text().splitlines()]
    assert len(lines) == result.steps[0].made > 30
    assert all(line["id"] == f"{line['parent']}~keyboard-1" for line in lines)
    checked = data_check([str(tmp_path / "out" / ROWS)], quiet)
    assert not checked.errors
    assert checked.files[0]["records"] == len(lines)
    screen = io.StringIO()
    result.render(Console(file=screen, width=100))
    told = screen.getvalue()
    assert "keyboard   " in told
    assert "counterfactual   0 rows" in told
    assert told.count("     - ") == 1
    assert "[[" in told
    assert result.json()["ways"][0]["way"] == "keyboard"


def test_a_recipe_without_a_way_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names no way"):
        data_augment(recipe, tmp_path / "out", ["data.augment=[]"], quiet)
    assert not (tmp_path / "out").exists()


def test_what_differs_is_marked() -> None:
    before, after = compared("the big\nparcel", "the large\nparcel, yes", plain=True)
    assert before.plain == "     - the [[big]]\\nparcel"
    assert after.plain == "     + the [[large]]\\nparcel[[, yes]]"


def test_the_gain_is_measured_on_the_same_rows_with_the_same_steps(recipe: Path, tmp_path: Path) -> None:
    body = yaml.safe_load(recipe.read_text())
    del body["train"]["steps"]
    body["train"] |= {"epochs": 0.3}
    recipe = job.write(recipe.parent / "epochs", body, ROWS_IN)
    events: list[Event] = []
    result = data_augment(recipe, tmp_path, [], events.append, measure=True, seeds=2)
    gain = result.gain
    assert gain is not None
    assert [event.steps for event in events if isinstance(event, Started)] == [2] * 4
    assert (gain.rows, gain.seeds, gain.steps) == (15, 2, 2)
    assert gain.difference == pytest.approx(gain.with_ - gain.without)
    assert gain.low <= gain.difference <= gain.high
    again = data_augment(recipe, tmp_path, [], quiet, measure=True, seeds=2)
    assert again.gain == gain
    few = ["data.split={train: 0.8, validation: 0.1, test: 0.1}"]
    with pytest.raises(DataError, match="D116"):
        data_augment(recipe, tmp_path / "few", few, quiet, measure=True)


def test_the_interval_is_that_of_the_reference(recipe: Path) -> None:
    stream = np.random.default_rng(3)
    without, noise = stream.normal(2, 1, 200), stream.normal(-0.05, 0.2, 200)
    loaded = load(recipe, ["evaluate.resamples=4000"])
    found = _compared(without, without + noise, 10, 1, loaded)
    wanted = bootstrap((noise,), np.mean, n_resamples=4000, rng=np.random.default_rng(0)).confidence_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.004)
    assert found.word == "helped"


@pytest.mark.parametrize(("low", "high", "word"), [(-2, -1, "helped"), (-1, 1, "not decided"), (1, 2, "harmed")])
def test_the_word_is_said_by_the_whole_interval(low: float, high: float, word: str) -> None:
    assert Gain(20, 1, 5, 1.0, 1.0, 0.0, low, high, 0.95).word == word
