"""The page of a watch: one HTML file without scripts and without network."""

from __future__ import annotations

from html import escape
from pathlib import Path

from sartor.console import printable
from sartor.flow.watch import Watched
from sartor.store import atomic

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 40px auto; padding: 0 24px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid #8884; vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 400; opacity: .7; }
section { border-left: 4px solid #b0352c; padding-left: 16px; margin: 32px 0; }
.bar { display: inline-block; height: 8px; background: #2457a6; vertical-align: middle; }
.alarm .bar { background: #b0352c; }
"""


def write(path: Path, found: Watched) -> None:
    """Put the page at `path`."""
    atomic.write_text(path, page(found))


def page(found: Watched) -> str:
    """The page."""
    state = f"{len(found.alarms)} alarms" if found.alarms else "no alarm"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_safe(found.target)}: {state}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{_safe(found.target)}: {state}</h1><p>{found.requests:,} requests, compared with {_safe(found.reference)}. "
        f"On a stable stream the chance of any alarm, ever, is {found.alpha:g} at most.</p>"
        f"{''.join(_sections(found))}<h2>All that is watched</h2><table><tr><th>feature<th>usual<th>latest<th>values<th>evidence</tr>"
        f"{''.join(_lines(found))}</table></body></html>\n"
    )


def _sections(found: Watched) -> list[str]:
    made = []
    for alarm in found.alarms:
        rows = "".join(
            f"<tr><td>{_safe(row.value)}<td>{_safe(row.id)}<td>{_safe(row.prompt or '')}<td>{_safe(row.answer or '')}</tr>"
            for row in found.rows[alarm.id]
        )
        made.append(
            f"<section><h2>{_safe(alarm.what)}</h2><p><b>{_safe(alarm.before)}</b> became <b>{_safe(alarm.after)}</b> "
            f"since about request {alarm.since:,}; certain at request {alarm.number:,}.</p><p>Next: {_safe(alarm.next)}.</p>"
            f"<table><tr><th>value<th>row<th>prompt<th>answer</tr>{rows}</table></section>"
        )
    return made


def _lines(found: Watched) -> list[str]:
    return [
        f"<tr{' class=alarm' if line['alarm'] else ''}><td>{_safe(line['feature'])}<td>{_safe(line['before'])}<td>{_safe(line['latest'])}"
        f'<td>{line["values"]:,}<td><span class="bar" style="width:{min(1.0, line["evidence"]) * 120:.0f}px"></span></tr>'
        for line in found.table
    ]


def _safe(text: str) -> str:
    return escape(printable(text))
