"""The verdict as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def render_verdict(console: Console, verdict: Mapping[str, Any], comparison: Mapping[str, Any]) -> None:
    """One line per metric: every model's score, then the difference to the first with its interval."""
    from sartor.console import printable, table
    from sartor.evaluate.numbers import difference_text, score_text

    models, subject = comparison["models"], comparison["subject"]
    first = models[0]
    percent = f"{100 * comparison['confidence']:g} %"
    header = [f"test, {comparison['rows']:,} rows never seen", *models, f"difference to {first} ({percent})", ""]
    rows = []
    for metric in comparison["metrics"]:
        share = metric["share"]
        cells = [score_text(metric["scores"].get(model, {}).get("value"), share) for model in models]
        difference = metric["differences"].get(first)
        if difference is None:
            rows.append([metric["name"], *cells, "", ""])
            continue
        low, high = (difference_text(difference[side], share) for side in ("low", "high"))
        change = f"{difference_text(difference['value'], share)} [{low}, {high}]"
        rows.append([metric["name"], *cells, change, difference["word"]])
    table(console, header, rows)
    gates = verdict["gates"]
    if gates:
        passed = sum(gate["pass"] for gate in gates)
        style = "bold green" if verdict["pass"] else "bold red"
        word = "PASSED" if verdict["pass"] else "FAILED"
        console.print(f"{word}: {passed} of {len(gates)} gates", style=style)
        for gate in gates:
            if not gate["pass"]:
                console.print(
                    printable(f"  {gate['metric']} {gate['rule']}: {gate['note']}"), style="red", soft_wrap=True
                )
    assert subject in models
    console.print(printable(verdict["sentence"]), soft_wrap=True)
