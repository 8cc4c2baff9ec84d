"""The verdict as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


WIDE = 4
"""Models up to which each has a column."""


def render_verdict(
    console: Console,
    verdict: Mapping[str, Any],
    comparison: Mapping[str, Any],
    suites: Sequence[Mapping[str, Any]] = (),
) -> None:
    """One line per metric: every model's score, then the difference to the first with its interval; of many models, one line each.

    Of each suite its main metric follows.
    """
    from sartor.console import printable, table

    models, subject = comparison["models"], comparison["subject"]
    table(console, *(_wide(comparison, suites) if len(models) <= WIDE else _long(comparison, suites)))
    for line in remarks(comparison):
        console.print(printable(line), style="dim", soft_wrap=True)
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


def _wide(comparison: Mapping[str, Any], suites: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    from sartor.evaluate.numbers import difference_text, score_text

    models, called = comparison["models"], comparison.get("called", {})
    names = [called.get(model, model) for model in models]
    percent = f"{100 * comparison['confidence']:g} %"
    header = [f"test, {comparison['rows']:,} rows never seen", *names, f"difference to {names[0]} ({percent})", ""]
    rows = []
    for metric in (*comparison["metrics"], *_main(suites)):
        share = metric["share"]
        cells = [score_text(metric["scores"].get(model, {}).get("value"), share) for model in models]
        difference = metric["differences"].get(models[0])
        if difference is None:
            rows.append([metric["name"], *cells, "", ""])
            continue
        low, high = (difference_text(difference[side], share) for side in ("low", "high"))
        change = f"{difference_text(difference['value'], share)} [{low}, {high}]"
        rows.append([metric["name"], *cells, change, word_text(difference)])
    return header, rows


def _long(comparison: Mapping[str, Any], suites: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    from sartor.evaluate.numbers import MISSING, difference_text, range_text, score_text

    called, subject = comparison.get("called", {}), comparison["subject"]
    percent = f"{100 * comparison['confidence']:g} %"
    header = [f"test, {comparison['rows']:,} rows never seen", "score", percent, f"{subject} − it ({percent})", ""]
    rows = []
    for metric in (*comparison["metrics"], *_main(suites)):
        share = metric["share"]
        rows.append([metric["name"], "", "", "", ""])
        for model in comparison["models"]:
            score, difference = metric["scores"].get(model), metric["differences"].get(model)
            line = [f"  {called.get(model, model)}"]
            line += (
                [MISSING, ""]
                if score is None
                else [score_text(score["value"], share), range_text(score["low"], score["high"], share)]
            )
            if difference is None:
                rows.append([*line, "", ""])
                continue
            value, low, high = (difference_text(difference[side], share) for side in ("value", "low", "high"))
            rows.append([*line, f"{value} [{low}, {high}]", word_text(difference)])
    return header, rows


def _main(suites: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The main metric of every suite that compares models."""
    for suite in suites:
        yield from (suite.get("comparison") or {"metrics": ()})["metrics"][:1]


def word_text(difference: Mapping[str, Any]) -> str:
    """The word, with a star where it does not survive the correction for many comparisons."""
    return str(difference["word"]) + ("" if difference.get("survives", True) else " *")


def remarks(comparison: Mapping[str, Any]) -> Iterator[str]:
    """What the stars mean, and how many more rows would decide what is not decided."""
    from sartor.evaluate.corrections import TOLD
    from sartor.evaluate.numbers import more_rows, score_text
    from sartor.evaluate.slices import sentences

    called = comparison.get("called", {})
    told = [
        (metric["name"], called.get(model, model), difference)
        for metric in comparison["metrics"]
        for model, difference in metric["differences"].items()
    ]
    weak = [(metric, model) for metric, model, difference in told if not difference.get("survives", True)]
    if weak:
        listed = ", ".join(f"{metric} against {model}" for metric, model in weak)
        how = TOLD[comparison["correction"]]
        yield f" * not when corrected for {comparison['comparisons']} comparisons ({how}): {listed}"
    if comparison.get("slices"):
        for sentence in sentences(comparison["slices"], score_text):
            yield f" {sentence}"
    short = [
        (metric, model, difference["rows_to_decide"])
        for metric, model, difference in told
        if difference.get("rows_to_decide")
    ]
    if short:
        listed = ", ".join(f"{metric} against {model} about {more_rows(count)}" for metric, model, count in short)
        yield f" more test rows that would decide differences as large as these: {listed}"
