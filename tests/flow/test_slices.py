"""A run whose test rows are cut into slices: told in the comparison, in the report, on the terminal, and decided by gates."""

from __future__ import annotations

import io
from pathlib import Path

import job
import pytest
from job import Done, finish
from rich.console import Console

from sartor.errors import RecipeError
from sartor.flow.run import run


@pytest.fixture(scope="module")
def cut(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    rows = [{**row, "queue": ("lamps", "others")[index % 2]} for index, row in enumerate(job.orders(160))]
    evaluate = {
        "metrics": ["json_valid", "perplexity"],
        "against": ["base"],
        "slices": ["queue", {"field": "length", "least": 5}],
    }
    rule = {"metric": "perplexity", "drop_at_most": 0.1}
    goal = {"success": [{**rule, "slice": "all"}, {**rule, "slice": "queue=lamps"}]}
    split = {"train": 0.4, "validation": 0.1, "test": 0.5}
    data = {"sources": ["orders.jsonl"], "split": split}
    body = job.recipe(model, data=data, train={"steps": 6}, evaluate=evaluate, goal=goal, method="full")
    return finish(tmp_path_factory.mktemp("slices"), body, rows=rows)


def test_slices_are_told_everywhere(cut: Done) -> None:
    told = cut.ran.comparison["slices"]
    assert [each["field"] for each in told["fields"]] == ["queue", "length"]
    assert [[metric["name"] for metric in one["metrics"]] for one in told["fields"][0]["slices"]] == [
        ["json_valid", "perplexity"]
    ] * 2
    assert sum(one["rows"] for one in told["fields"][0]["slices"]) == cut.ran.comparison["rows"]
    assert [one["metric"] for one in told["worst"]] == ["json_valid", "perplexity"]
    page = (cut.folder / "report.html").read_text()
    assert "by queue" in page
    assert f"Worst of {told['count']} slices in perplexity" in page
    console = Console(file=io.StringIO(), width=200, markup=False)
    cut.ran.render(console)
    assert f"worst of {told['count']} slices in perplexity" in console.file.getvalue()  # type: ignore[attr-defined]


def test_gates_are_decided_on_slices(cut: Done) -> None:
    every, one = cut.ran.verdict["gates"]
    assert (every["rule"], one["rule"]) == ("drop_at_most 0.1 in every slice", "drop_at_most 0.1 where queue=lamps")
    assert every["pass"]
    assert every["note"].startswith(f"all {cut.ran.comparison['slices']['count']} slices; nearest ")
    assert one["note"].startswith("queue=lamps: ")
    assert cut.again().verdict["gates"] == cut.ran.verdict["gates"]


@pytest.mark.parametrize(
    ("slices", "slice_", "wanted"),
    [(["colour"], None, "no test row has the column colour"), ([], "all", "needs slices that are not made"),
     (["length"], "queue=lamps", "needs slices that are not made")],
)  # fmt: skip
def test_what_cannot_be_cut_is_told_before(
    model: Path, tmp_path: Path, slices: list[str], slice_: str | None, wanted: str
) -> None:
    goal = {"success": [{"metric": "perplexity", "at_most": 999, **({"slice": slice_} if slice_ else {})}]}
    recipe = job.write(tmp_path, job.recipe(model, goal=goal, evaluate={"slices": slices, "against": ["base"]}))
    with pytest.raises(RecipeError, match=wanted):
        run(recipe, tmp_path / "out", (), (), lambda event: None)
