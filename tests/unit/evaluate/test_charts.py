"""Charts of a comparison: what metrics draw, and the spread of the main one."""

from __future__ import annotations

import math
from pathlib import Path

from sartor.evaluate import metrics as measures
from sartor.evaluate.charts import charts
from sartor.evaluate.curves import chart
from sartor.protocols import Chart, Outcome


def told(place: int, chance: float, right: bool, prediction: str = "a b") -> Outcome:
    scores = {"yes": math.log(chance), "no": math.log(1 - chance)}
    reference = "yes" if right else "no"
    return Outcome(str(place), "?", reference, prediction=prediction, label="yes", label_scores=scores)


def test_reliability_tells_for_each_bin_how_sure_and_how_often_right() -> None:
    rows = [told(place, 0.9, place < 3) for place in range(4)] + [told(place, 0.6, True) for place in range(4, 6)]
    (ece,) = measures.load(["ece"], Path())
    found = [each for each in charts({"base": rows}, [ece]) if each.diagonal]
    assert [[(round(x, 6), y) for x, y in found[0].series["base"]]] == [[(0.6, 1.0), (0.9, 0.75)]]


def test_the_spread_of_the_main_metric_is_a_distribution_function() -> None:
    words = ["a b", "a", "c", "a b c d"]
    rows = [Outcome(str(place), "?", "a b", prediction=word) for place, word in enumerate(words)]
    main, other = measures.load(["token_f1", "rouge1"], Path())
    (found,) = charts({"base": rows, "tuned": rows}, [main, other])
    assert found.series["base"][-1][1] == 1
    values = [x for x, _ in found.series["base"]]
    assert values == sorted(values)
    assert len(values) == 4
    (exact,) = measures.load(["exact_match"], Path())
    assert charts({"base": rows}, [exact]) == [], "of right and wrong there is nothing to spread"


def test_a_chart_is_drawn_with_its_axes_and_without_what_is_not_finite() -> None:
    told = Chart("t", "<x>", "y", {"a": [(0, 0.5), (1, 1.0), (2, math.nan)], "b": [(0, 1)]}, diagonal=True).json()
    svg = chart(told, width=300, height=200)
    assert "&lt;x&gt;" in svg
    assert svg.count("<circle") == 3
    assert "nan" not in svg
    assert not chart(Chart("t", "x", "y", {}).json(), width=300, height=200)
