"""The operating point: which places fit, which is taken, where one looks on, and the weights there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sartor.events import Finished
from sartor.flow.steer import Aim, Drawn, Point, advice, best, between, of_base, paired, told
from sartor.recipe.load import parse

AIM = Aim("loss", -1.0, 0.02, 0.95, 0)
FAR = Point(80, 1.0, 0.2, 0.5, -0.2, -0.1, False)
NEAR = Point(80, 0.5, 0.4, 0.6, -0.01, 0.01, True)
CLOSE = Point(80, 0.3, 0.6, 0.61, -0.005, 0.01, True)
DONE = Finished(90, 80, "", 1, 1, 1.0, 1)


def test_the_best_in_the_task_of_those_that_fit_is_taken() -> None:
    assert best([FAR, CLOSE, NEAR], AIM) == NEAR
    assert best([FAR, CLOSE, NEAR], replace(AIM, sign=1.0)) == CLOSE
    assert best([FAR], AIM) is None
    alike = replace(NEAR, alpha=0.4, general=0.7)
    assert best([NEAR, alike], AIM) == alike


def test_the_search_goes_on_where_the_bound_is_passed() -> None:
    assert between([FAR, NEAR, CLOSE]) == pytest.approx(0.75)
    assert between([FAR]) == pytest.approx(0.5)
    assert between([NEAR, CLOSE]) is None


def test_the_interval_is_paired_and_narrows_with_the_change() -> None:
    draw = np.random.default_rng(0)
    change = draw.normal(-0.02, 0.2, 400)
    low, high = paired(change, 0.95, 0)
    reach = 1.96 * change.std() / 20
    assert (low, high) == pytest.approx((change.mean() - reach, change.mean() + reach), abs=0.004)
    less = paired(change / 10, 0.95, 0)
    assert less == pytest.approx((low / 10, high / 10))


def test_weights_in_between() -> None:
    tuned = {"w": torch.tensor([2.0, 4.0]), "x.lora_A.y": torch.ones(2), "x.lora_B.y": torch.full((2,), 3.0)}
    drawn = Drawn(tuned, {"w": torch.tensor([0.0, 2.0])}, 0.25)
    assert set(drawn) == set(tuned)
    assert drawn["w"].tolist() == [0.5, 2.5]
    assert drawn["x.lora_A.y"].tolist() == [1.0, 1.0]
    assert drawn["x.lora_B.y"].tolist() == [0.75, 0.75]


def test_a_choice_that_changes_something_is_told() -> None:
    note = told(NEAR, DONE, AIM, 0.62)
    assert note is not None
    assert (note.code, note.level) == ("N417", "info")
    assert "step 80 at 0.5 of the way" in note.message
    assert told(replace(NEAR, alpha=1.0), DONE, AIM, 0.62) is None


def test_advice_asks_for_more_replay_where_more_is_lost() -> None:
    def weight(drop: float, replay: str = "") -> str:
        points = [{"step": 80, "alpha": 1.0, "general": 0.6 - drop}]
        steering = {"drop_at_most": 0.02, "base": 0.6, "points": points}
        recipe = parse(f"base: sartor/nano\ndata: {{sources: [a.jsonl{replay}]}}\n").recipe
        return advice(recipe, steering, 3e-4).message

    assert "weight: 0.05" in weight(0.01)
    assert "weight: 0.25" in weight(0.1)
    assert "it fell by 0.125 in 100 steps" in weight(0.1)
    assert "weight: 0.5" in weight(0.9)
    more = weight(0.04, ", {path: builtin:general, role: replay, weight: 0.1}")
    assert "more replay" in more
    assert "weight: 0.2" in more
    assert "rate of 0.0001" in more


def test_a_later_stage_is_measured_against_the_base(tmp_path: Path) -> None:
    first, later = tmp_path / "0" / "general.json", tmp_path / "1"
    of_base(later, [])
    assert not later.exists()
    first.parent.mkdir()
    first.write_text("{}")
    of_base(later, [first])
    assert (later / "general.json").read_text() == "{}"
