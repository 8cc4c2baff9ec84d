"""Tasks one after the other: every task after every stage, with one model or an adapter each, and what stands in the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import job
import pytest
from job import Done, finish
from rich.console import Console

from sartor.errors import RecipeError
from sartor.flow.check import check
from sartor.flow.run import run

SPLIT = {"train": 0.6, "validation": 0.2, "test": 0.2}


def quiet(event: object) -> None:
    """Shows nothing."""


def body(model: Path, evaluate: dict[str, Any] | None = None, **second: Any) -> dict[str, Any]:
    """Orders first, then something else."""
    given = {"metrics": ["perplexity"], "against": ["base"], **(evaluate or {})}
    plain = job.recipe(model, method="full", evaluate=given)
    stage = {**plain["train"], "optimizer": {"adamw": {"learning_rate": 0.02}}, "objective": "sft"}
    later = {"data": {"sources": ["later.jsonl"], "split": SPLIT}, **second}
    return json.loads(json.dumps({**plain, "train": [stage, {**stage, **later}]}))  # type: ignore[no-any-return]


def written(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"repeat {n} and {n * 7 % 31}", "completion": f"{n}, {n * 7 % 31}: done"} for n in range(60)]
    job.write_rows(folder / "later.jsonl", rows)
    job.write_rows(
        folder / "texts.jsonl", [{"text": f"a quiet mill by the water, page {n * 97 % 1009}"} for n in range(40)]
    )
    return folder


@pytest.fixture(scope="module")
def done(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return finish(written(tmp_path_factory.mktemp("continual")), body(model))


def values(done: Done) -> list[list[float | None]]:
    assert done.ran.continual is not None
    return [[cell and cell["value"] for cell in line] for line in done.ran.continual["matrix"]]


def test_every_task_is_measured_after_every_stage(done: Done) -> None:
    (first, hole), (lost, second) = values(done)
    assert hole is None
    assert first is not None
    assert lost is not None
    assert second is not None
    assert lost > first, "the second task overwrites the first"
    assert done.ran.continual is not None
    assert done.ran.continual["forgetting"]["value"] == pytest.approx(lost - first)
    assert done.ran.continual["backward_transfer"]["value"] == pytest.approx(first - lost)
    assert done.ran.continual["average"]["value"] == pytest.approx((lost + second) / 2)
    assert [task["name"] for task in done.ran.continual["tasks"]] == ["1: orders.jsonl", "2: later.jsonl"]


def test_a_cell_is_what_the_stages_own_model_makes_of_the_rows(done: Done) -> None:
    from sartor.evaluate.outcomes import read_outcomes
    from sartor.flow.eval import evaluate

    rows = read_outcomes(done.folder / "continual/0-0.jsonl")
    path = job.write_rows(
        done.folder.parent / "again.jsonl", [{"prompt": r.prompt, "completion": r.reference} for r in rows]
    )
    found = evaluate([str(done.folder / "stages/0-sft/model")], data=str(path), metrics=["perplexity"], emit=quiet)
    (metric,) = found.json()["metrics"]
    (score,) = metric["scores"].values()
    assert score["value"] == pytest.approx(values(done)[0][0], rel=1e-5)


def test_the_last_model_is_not_asked_twice(done: Done) -> None:
    assert sorted(path.name for path in (done.folder / "continual").iterdir()) == ["0-0.jsonl", "1-1.jsonl"]
    assert done.ran.comparison["metrics"][0]["scores"]["tuned"]["value"] == pytest.approx(values(done)[1][0])


def test_it_is_in_the_folder_the_report_and_on_the_terminal(done: Done) -> None:
    assert json.loads((done.folder / "continual.json").read_text()) == done.ran.continual
    assert "Tasks one after the other" in (done.folder / "report.html").read_text(encoding="utf-8")
    console = Console(width=140, record=True, quiet=False)
    done.again().render(console)
    told = console.export_text()
    assert "after 2: later.jsonl" in told
    assert "forgetting +" in told


def test_a_stage_from_the_base_leaves_the_first_task_as_it_was(model: Path, tmp_path: Path) -> None:
    apart = finish(written(tmp_path), body(model, start="base"))
    (first, _), (kept, _) = values(apart)
    assert kept == first
    assert apart.ran.continual is not None
    assert apart.ran.continual["forgetting"]["value"] == 0
    assert json.loads((apart.folder / "model/sartor.json").read_text())["base_path"] == str(model.resolve())


def test_it_can_be_left_out(model: Path, tmp_path: Path) -> None:
    plain = finish(written(tmp_path), body(model, {"continual": False}))
    assert plain.ran.continual is None
    assert not (plain.folder / "continual").exists()


def test_what_is_lost_is_measured_again(done: Done) -> None:
    before = done.ran.continual
    (done.folder / "continual/1-1.jsonl").unlink()
    log = done.folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(line for line in lines if b'"state": "finished"' not in line))
    assert done.again().continual == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"train": {"steps": 2}}, "there is one stage"),
        ({"train": [{"steps": 2}, {"steps": 2}]}, "learn from the same rows"),
        (
            {"train": [{"steps": 2}, {"steps": 2, "objective": "pretrain", "data": "texts.jsonl"}]},
            "different objectives",
        ),
    ],
)
def test_stages_that_are_no_tasks_are_refused(model: Path, tmp_path: Path, change: dict[str, Any], why: str) -> None:
    recipe = job.recipe(model, evaluate={"continual": True})
    recipe["train"] = change["train"]
    path = job.write(written(tmp_path), recipe)
    with pytest.raises(RecipeError, match=why):
        run(path, tmp_path / "out", (), (), quiet)
    assert not (tmp_path / "out").exists()
    recipe["evaluate"]["continual"] = "auto"
    check(job.write(tmp_path, recipe), (), quiet)


def lines(kind: str) -> list[dict[str, str]]:
    colours = {"red": "warm", "blue": "cold", "green": "calm", "black": "dark", "white": "bright", "yellow": "sunny"}
    flip = dict(zip(colours, reversed(colours.values()), strict=True))
    table = colours if kind == "first" else flip
    return [
        {"prompt": f"{kind} {n}: what is {colour}?", "completion": table[colour]}
        for n in range(40)
        for colour in [list(colours)[n % 6]]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("hold", ["ewc", "replay"])
def test_what_holds_the_weights_or_repeats_the_rows_forgets_less(hold: str, tmp_path: Path) -> None:
    """On the embedded model: two tasks that contradict each other in their answers."""
    for kind in ("first", "second"):
        job.write_rows(tmp_path / f"{kind}.jsonl", lines(kind))
    stage = {
        "objective": "sft",
        "steps": 40,
        "batch": {"examples": 8},
        "optimizer": {"adamw": {"learning_rate": 0.001}},
        "threads": 1,
        "stop": {"patience": 0},
    }
    split = {"train": 0.6, "validation": 0.1, "test": 0.3, "near_duplicates": 1.0}

    def forgets(**later: Any) -> float:
        sources: list[Any] = ["second.jsonl"]
        if later.pop("replay", False):
            sources.append({"path": "first-again.jsonl", "role": "replay", "weight": 0.4})
            job.write_rows(tmp_path / "first-again.jsonl", lines("first"))
        recipe = {
            "base": "sartor/nano",
            "data": {"sources": ["first.jsonl"], "split": split},
            "method": "full",
            "train": [stage, {**stage, **later, "data": {"sources": sources, "split": split, "on_leak": "drop"}}],
            "evaluate": {"metrics": ["perplexity"], "against": ["base"], "general": False, "resamples": 200},
        }
        path = tmp_path / f"{hold}-{len(later)}-{len(sources)}.yaml"
        path.write_text(json.dumps(recipe))
        found = run(path, tmp_path / path.stem, (), (), quiet).continual
        assert found is not None
        return float(found["forgetting"]["value"])

    plain = forgets()
    better = (
        forgets(anchor={"ewc": {"data": "first.jsonl", "strength": 1000000}}) if hold == "ewc" else forgets(replay=True)
    )
    assert plain > 0
    assert better < 0.7 * plain
