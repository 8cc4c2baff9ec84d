"""A run whose base gets further tokens: trained, measured, saved, merged between stages, refused where rows cannot move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest

import sartor
from sartor.errors import RecipeError
from sartor.flow.run import run
from sartor.tokens.growth import Growth

TOKENS = ["<order>", "</order>"]
ROWS = [{**row, "completion": f"<order>{row['completion']}</order>"} for row in job.orders()]


def body(model: Path, **changes: Any) -> dict[str, Any]:
    made = job.recipe(model, evaluate={"metrics": ["perplexity"], "against": ["base"], "rows": 6}, **changes)
    return made | {"base": {"model": str(model), "add_tokens": TOKENS}}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_tokens_are_learnt_and_travel(model: Path, tmp_path: Path, method: str) -> None:
    done = job.finish(tmp_path, body(model, method=method), rows=ROWS)
    verdict = json.loads((done.folder / "verdict.json").read_text())
    assert verdict["pass"]
    made = sartor.load(str(done.folder))
    vocabulary = made.renderer.vocabulary
    assert vocabulary.growth == Growth(tuple(TOKENS), job.VOCABULARY)
    assert vocabulary.encode("<order>", special=False) == [job.VOCABULARY]
    logp = made.logprobs(ROWS[0]["prompt"], ROWS[0]["completion"])
    assert logp[0] > -4, "before training it is about -6, as of any token"
    weight = made.policy.model.get_input_embeddings().weight
    assert weight.shape[0] == job.VOCABULARY + 2
    assert bool((weight[-1] != weight[-2]).any())
    assert done.again().resumed_finished


def test_a_later_stage_goes_on_with_them(model: Path, tmp_path: Path) -> None:
    recipe = body(model)
    recipe["train"] = [recipe["train"], body(model)["train"]]
    done = job.finish(tmp_path, recipe, rows=ROWS)
    whole = next((done.folder / "stages").glob("0-*/whole"))
    assert Growth.of(whole) == Growth.of(done.folder / "model") == Growth(tuple(TOKENS), job.VOCABULARY)
    logp = sartor.load(str(done.folder)).logprobs(ROWS[0]["prompt"], ROWS[0]["completion"])
    assert logp[0] > -4, "before training it is about -6, as of any token"


@pytest.mark.parametrize("method", ["ia3", "prompt"])
def test_a_method_that_trains_no_rows_is_refused(model: Path, tmp_path: Path, method: str) -> None:
    path = job.write(tmp_path, body(model, method=method), ROWS)
    with pytest.raises(RecipeError, match=f"R106.*method {method} trains no rows of new tokens"):
        run(path, tmp_path / "out", (), (), lambda event: None)
