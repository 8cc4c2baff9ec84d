"""How far the annotators of a folder agree, and where they do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.console import printable, table
from sartor.data.annotate.agreement import Coefficient, agreement
from sartor.data.annotate.agreement import table as ratings_of
from sartor.data.annotate.resolve import VERDICTS, disagreed, verdicts, votes
from sartor.data.annotate.workspace import Workspace
from sartor.errors import DataError, Problem

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 10
NAMES = {
    "percent": "agree, percent",
    "cohen_kappa": "Cohen's kappa",
    "fleiss_kappa": "Fleiss' kappa",
    "krippendorff_alpha_nominal": "Krippendorff's alpha",
    "krippendorff_alpha_ordinal": "Krippendorff's alpha, ordinal",
}


@dataclass(frozen=True, slots=True)
class Agreed:
    """Coefficients with intervals; which labels are taken for which."""

    folder: str
    kind: str
    answers: dict[str, int]
    """Annotator -> rows answered."""
    coefficients: tuple[Coefficient, ...]
    confused: tuple[tuple[str, str, int], ...]
    """(label, other label, rows that have both), most frequent first."""
    disagreed: tuple[dict[str, Any], ...]
    """Rows with different labels: id, file, line, votes."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "folder": self.folder,
            "kind": self.kind,
            "answers": self.answers,
            "coefficients": [coefficient.json() for coefficient in self.coefficients],
            "confused": [{"labels": [one, other], "rows": rows} for one, other, rows in self.confused],
            "disagreed": list(self.disagreed),
        }

    def render(self, console: Console) -> None:
        """A table of coefficients, then where annotators disagree."""
        unit = "rows" if self.kind == "label" else "pairs of answers"
        lines = [
            [
                NAMES[one.name],
                "undefined"
                if one.value is None
                else f"{one.value:.1%}"
                if one.name == "percent"
                else f"{one.value:.3f}",
                "" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}",
                f"{one.rows:,}",
                ", ".join(one.between),
            ]
            for one in self.coefficients
        ]
        table(console, ["", "value", "95 % interval", unit, "between"], lines)
        if self.confused:
            console.print("\n taken for each other", style="bold")
            for one, other, rows in self.confused[:SHOWN]:
                console.print(printable(f"   {rows:>5,}  {one} / {other}"), soft_wrap=True)
        if self.disagreed:
            console.print(
                printable(f"\n {len(self.disagreed):,} rows to settle   sartor data adjudicate {self.folder}")
            )


def data_agreement(folder: Path, *, seed: int = 0) -> Agreed:
    """Measure agreement on labels, or on which of two answers is better. Raises DataError A107, A114 with one annotator only."""
    workspace = Workspace.open(folder)
    sheets = workspace.board().sheets
    kind = workspace.job.kind
    labels = workspace.job.labels if kind == "label" else VERDICTS
    given: dict[str, dict[str, str]] = {}
    for name, sheet in sheets.items():
        for row, mark in sheet.answers.items():
            if mark.label is not None:
                given.setdefault(name, {})[row] = mark.label
            elif mark.ranking is not None:
                found = {f"{row}:{one}:{other}": verdict for one, other, verdict in verdicts(mark.ranking)}
                given.setdefault(name, {}).update(found)
    names, ratings = ratings_of(given, labels)
    if not ((ratings >= 0).sum(axis=1) >= 2).any():
        what = "no row was answered by two annotators"
        fix = "begin with --overlap 0.2, so that everybody gets a fifth of the rows, and have two people answer"
        raise DataError(Problem("A114", what, file=str(folder), fix=fix))
    ordinal = kind == "rank" or workspace.job.ordinal
    apart = disagreed(workspace.items, sheets) if kind == "label" else []
    said = {item.key: votes(sheets, item.key) for item in apart}
    both = Counter(
        (one, other)
        for each in said.values()
        for number, one in enumerate(labels)
        for other in labels[number + 1 :]
        if one in each.values() and other in each.values()
    )
    return Agreed(
        folder=str(folder),
        kind=kind,
        answers={name: len(sheet.answers) for name, sheet in sheets.items()},
        coefficients=tuple(agreement(names, ratings, len(labels), ordinal=ordinal, seed=seed)),
        confused=tuple((one, other, rows) for (one, other), rows in both.most_common()),
        disagreed=tuple({"id": i.id, "file": i.file, "line": i.line, "votes": said[i.key]} for i in apart),
    )
