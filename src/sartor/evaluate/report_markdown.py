"""The report as Markdown, for an issue, a wiki or a message: the verdict, its evidence in tables, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sartor.evaluate.advice import next_steps
from sartor.evaluate.facts import ReportFacts
from sartor.markdown import table, text
from sartor.metrics._numbers import comparison_cells

SHOWN = 3
"""Rows that got better and worse, as many each."""


def report_markdown(facts: ReportFacts) -> str:
    """The whole text. What users and models wrote is escaped and cut."""
    return "\n\n".join(block for block in _blocks(facts) if block) + "\n"


def _blocks(facts: ReportFacts) -> Iterator[str]:
    verdict = facts.verdict
    yield f"# {text(facts.title)}"
    yield f"**{text(verdict['sentence'])}**"
    yield f"Goal: {text(facts.statement)}" if facts.statement else ""
    yield "\n".join(
        f"- {'✓' if gate['pass'] else '✗'} {text(gate['metric'])} {text(gate['rule'].replace('_', ' '))}: "
        f"{text(gate.get('note', ''))}"
        for gate in verdict["gates"]
    )
    yield from _compared("Scores", f"{facts.comparison['rows']:,} test rows.", facts.comparison)
    for suite in facts.suites:
        yield from _compared(suite["title"], suite["why"], suite["comparison"])
    yield from _flips(facts)
    steps = next_steps(facts)
    if steps:
        yield "## What to try next"
        yield "\n".join(f"{number}. {text(step.what)} ({text(step.because)})" for number, step in enumerate(steps, 1))
    yield "## Run"
    parts = ", ".join(f"{count:,} {part}" for part, count in facts.data.parts.items())
    facts_told = {"base": facts.base, "method": facts.method, "task": facts.task, "rows": parts, "made": facts.created}
    told = facts_told | {name: f"{seconds:,.1f} s" for name, seconds in facts.timing.items()}
    yield table(("", ""), [(text(name), text(value)) for name, value in told.items() if value])
    yield "\n".join(f"- {text(note)}" for note in facts.notes)


def _compared(title: str, told: str, comparison: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {text(title)}"
    yield f"{text(told)} Intervals are {100 * comparison['confidence']:g} %; differences are taken row by row."
    head, *rows = comparison_cells(comparison, text)
    yield table(head, rows)


def _flips(facts: ReportFacts) -> Iterator[str]:
    flips = facts.comparison["flips"]
    if not flips:
        return
    yield f"## Rows that changed by {text(flips['metric'])}"
    yield f"{flips['better_count']:,} got better, {flips['worse_count']:,} got worse."
    rows = [(way, flip) for way in ("worse", "better") for flip in flips[way][:SHOWN]]
    if rows:
        lines = [(way, *(text(flip[key]) for key in ("prompt", "reference", "before", "after"))) for way, flip in rows]
        yield table(("", "asked", "right answer", "before", "after"), lines)
