"""Writes labels and rankings as rows to train on, or as other tools read them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.console import printable, table
from sartor.data.annotate import exports, label_studio, openai
from sartor.data.annotate.resolve import Resolved, disagreed, pairs, resolved
from sartor.data.annotate.wins import WinRate, win_rates
from sartor.data.annotate.workspace import Workspace
from sartor.errors import DataError, Problem
from sartor.flow.data_label import latest_decisions
from sartor.store import atomic

if TYPE_CHECKING:
    from rich.console import Console

ROWS, PAIRS, RANKINGS, LABEL_STUDIO, OPENAI = "rows", "pairs", "rankings", "label-studio", "openai"
OF_LABELS = (ROWS, LABEL_STUDIO, OPENAI)
OF_RANKINGS = (PAIRS, RANKINGS, LABEL_STUDIO, OPENAI)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    output: str
    form: str
    rows: int
    how: dict[str, int]
    """Rows by how their label came about: single, agreed, majority, adjudicated."""
    unsettled: int
    """Rows left out because annotators disagree."""
    wins: tuple[WinRate, ...] = ()

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "output": self.output,
            "form": self.form,
            "rows": self.rows,
            "how": self.how,
            "unsettled": self.unsettled,
            "wins": [rate.json() for rate in self.wins],
        }

    def render(self, console: Console) -> None:
        """What was written, what was left out, and which model wins."""
        ways = "   ".join(f"{name} {count:,}" for name, count in self.how.items())
        console.print(
            printable(f" wrote {self.rows:,} rows   {ways}   {self.output}".replace("      ", "   ")), soft_wrap=True
        )
        if self.unsettled:
            what = f" left out {self.unsettled:,} rows on which annotators disagree   sartor data adjudicate, or --majority"
            console.print(what, style="yellow", soft_wrap=True)
        if self.wins:
            lines = [
                [
                    rate.model,
                    rate.against,
                    f"{rate.rate:.1%}",
                    "" if rate.low is None or rate.high is None else f"{rate.low:.1%} to {rate.high:.1%}",
                    f"{rate.wins:,}",
                    f"{rate.ties:,}",
                    f"{rate.losses:,}",
                    f"{rate.prompts:,}",
                ]
                for rate in self.wins
            ]
            head = ["model", "against", "wins", "95 % interval", "better", "equal", "worse", "prompts"]
            table(console, head, lines)


def export_labels(folder: Path, output: Path, *, form: str, majority: bool) -> Exported:
    """Write the label of each row, where there is one that holds. Raises DataError A107, A115 where there is nothing."""
    workspace = _opened(folder, "label")
    sheets, decisions = workspace.board().sheets, latest_decisions(workspace)
    found = [
        (item, holds)
        for item in workspace.items
        if (holds := resolved(item.key, sheets, decisions, majority=majority)) is not None
    ]
    settled = {item.key for item, _ in found}
    apart = sum(item.key not in settled for item in disagreed(workspace.items, sheets))
    if form == LABEL_STUDIO:
        tasks = label_studio.write(workspace.items, sheets)
        _write_tasks(output, tasks)
        return Exported(str(output), form, len(tasks), {}, 0)
    if form == OPENAI:
        lines = [openai.chat(item, holds.label) for item, holds in found]
    else:
        lines = [exports.labelled(item, holds, sheets, decisions.get(item.key)) for item, holds in found]
    _write_lines(output, lines, folder)
    return Exported(str(output), form, len(lines), _ways([holds for _, holds in found]), apart)


def export_rankings(folder: Path, output: Path, *, form: str) -> Exported:
    """Write pairs or rankings, and say which model wins. Raises DataError A107, A115 where there is nothing."""
    workspace = _opened(folder, "rank")
    sheets = workspace.board().sheets
    wins = tuple(win_rates(workspace.items, sheets))
    if form == LABEL_STUDIO:
        tasks = label_studio.write(workspace.items, sheets)
        _write_tasks(output, tasks)
        return Exported(str(output), form, len(tasks), {}, 0, wins)
    if form == RANKINGS:
        lines = [line for item in workspace.items for line in exports.ranked(item, sheets)]
    else:
        write = openai.preference if form == OPENAI else exports.preference
        lines = [write(pair) for pair in pairs(workspace.items, sheets)]
    _write_lines(output, lines, folder)
    return Exported(str(output), form, len(lines), {}, 0, wins)


def _opened(folder: Path, kind: str) -> Workspace:
    workspace = Workspace.open(folder)
    if workspace.job.kind != kind:
        held = "rankings" if kind == "label" else "labels"
        fix = f"sartor data {workspace.job.kind} --out {folder} --export FILE"
        raise DataError(Problem("A107", f"this folder holds {held}", file=str(folder), fix=fix))
    return workspace


def _ways(found: Sequence[Resolved]) -> dict[str, int]:
    return dict(Counter(holds.how for holds in found).most_common())


def _write_lines(output: Path, lines: Sequence[dict[str, Any]], folder: Path) -> None:
    if not lines:
        fix = f"answer some rows first: sartor data label or rank --out {folder}"
        raise DataError(Problem("A115", "there is nothing to write yet", file=str(folder), fix=fix))
    atomic.write_text(output, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _write_tasks(output: Path, tasks: Sequence[dict[str, Any]]) -> None:
    atomic.write_json(output, list(tasks))
