from __future__ import annotations

import re
from pathlib import Path

import measured

from sartor import registry
from sartor.evaluate.metrics import load
from sartor.evaluate.report import METRICS
from sartor.protocols import Outcome
from sartor.recipe.schema import by_suite

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_every_metric_has_its_line_with_its_direction() -> None:
    page = PAGE.read_text(encoding="utf-8")
    lines = re.findall(
        r"^\| `(\w+)` \|[^|]+\|(?:\\\||[^|])+\| (\w+) \|[^|]*\|[^|]+\| (higher|lower) \|$", page, re.MULTILINE
    )
    found = {name: measured.made(name) for name in registry.names("metric")}
    assert {name: (needs, better) for name, needs, better in lines} == {
        name: (one.needs, "higher" if one.higher_is_better else "lower") for name, one in found.items()
    }
    assert set(METRICS) >= set(found)
    assert all(by_suite(name) for name in set(METRICS) - set(found))


def test_the_example_of_an_own_metric_runs(tmp_path: Path) -> None:
    source = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert source is not None
    (tmp_path / "metrics.py").write_text(source[1], encoding="utf-8")
    (metric,) = load(["metrics.py:same_queue"], tmp_path)
    rows = [Outcome("1", "", '{"queue": "a"}', '{"queue": "a"}'), Outcome("2", "", '{"queue": "a"}', "no")]
    assert metric.stats(rows)[:, 0].tolist() == [1.0, 0.0]
