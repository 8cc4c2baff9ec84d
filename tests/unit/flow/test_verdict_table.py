from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from sartor.evaluate.compare import compare
from sartor.flow.verdict_table import render_verdict
from sartor.metrics.exact_match import METRIC
from sartor.protocols import Outcome


def rows(right: int, count: int = 60) -> list[Outcome]:
    return [Outcome(str(i), "q", "yes", "yes" if i < right else "no") for i in range(count)]


def printed(comparison: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False, markup=False)
    render_verdict(console, {"gates": [], "pass": True, "sentence": "Done."}, comparison)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_what_does_not_survive_the_correction_has_a_star_and_what_is_open_a_number_of_rows() -> None:
    others = {f"m{number}": rows(51) for number in range(11)}
    body = compare({"base": rows(51), **others, "tuned": rows(58)}, [METRIC]).json()
    told = printed(body)
    assert "better *" in told
    assert "* not when corrected for 12 comparisons (Holm): exact_match against base" in told
    open_ = printed(compare({"base": rows(50), "tuned": rows(51)}, [METRIC]).json())
    assert "more test rows that would decide differences as large as these: exact_match against base about" in open_
    assert "*" not in open_


def test_what_stands_for_the_base_is_called_what_it_is() -> None:
    called = {"base": "linear head on base"}
    told = printed(compare({"base": rows(30), "tuned": rows(58)}, [METRIC], called=called).json())
    assert "linear head on base" in told
    assert "difference to linear head on base (95 %)" in told
