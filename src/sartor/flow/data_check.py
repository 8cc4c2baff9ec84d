"""Reads and audits data files, or the data of a recipe, and says what was found. Writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data.pipeline import Audit, by_shares, examine, not_at_all
from sartor.data.split import PARTS
from sartor.data.wording import answered, asked
from sartor.errors import Problem
from sartor.events import Event
from sartor.recipe.schema import Data, Source

if TYPE_CHECKING:
    from rich.console import Console

RECIPES = (".yaml", ".yml")
SHOWN = 20
WIDTH = 60


@dataclass(frozen=True, slots=True)
class DataChecked:
    """What was found in the files of one or more audits."""

    files: tuple[dict[str, Any], ...]
    """path, format, records, skipped and unused columns of each."""
    samples: tuple[tuple[str, str], ...]
    """The first row of each file as it was understood: what is asked, what is answered."""
    findings: tuple[Problem, ...]
    splits: tuple[dict[str, Any], ...]
    """For each recipe, how its rows are divided."""
    likeness: tuple[str, ...]
    """For each recipe, how alike held-out rows are to training rows."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The findings that stop a run."""
        return tuple(problem for problem in self.findings if problem.level == "error")

    @property
    def exit_code(self) -> int:
        """2 where a run would be refused."""
        return 2 if self.errors else 0

    def json(self) -> dict[str, Any]:
        """``{"files": [...], "findings": [...], "splits": [...]}``."""
        return {
            "files": list(self.files),
            "findings": [problem.json() for problem in self.findings],
            "splits": list(self.splits),
        }

    def render(self, console: Console) -> None:
        """Print files, parts and warnings; the errors are raised by the command."""
        from sartor.console import printable

        for file, (question, answer) in zip(self.files, self.samples, strict=True):
            skipped = f"   {file['skipped']:,} bad" if file["skipped"] else ""
            facts = f"{file['records'] - file['skipped']:,} rows   {file['format'] or 'no known format'}{skipped}"
            console.print(f" {printable(file['path'])}   {facts}", soft_wrap=True)
            for name, text in (("first prompt", question), ("first answer", answer)):
                if text:
                    console.print(f"   {name}  {printable(text)}", style="dim", no_wrap=True, overflow="ellipsis")
            if file["unused"]:
                unused = ", ".join(file["unused"])
                console.print(f"   not used by the format  {printable(unused)}", style="dim", soft_wrap=True)
        for split, likeness in zip(self.splits, self.likeness, strict=True):
            console.print(f" split  {_parts(split)}", soft_wrap=True)
            console.print(f" leak   {likeness}", soft_wrap=True)
        others = [problem for problem in self.findings if problem.level != "error"]
        for problem in others[:SHOWN]:
            style = "yellow" if problem.level == "warning" else "cyan"
            console.print(f" {printable(str(problem))}", style=style, soft_wrap=True)
        if len(others) > SHOWN:
            console.print(f" ... and {len(others) - SHOWN} more; --json lists them all")
        records = sum(file["records"] for file in self.files)
        counts = (len(self.errors), sum(problem.level == "warning" for problem in others))
        console.print(f" {_plural(counts[0], 'error')}, {_plural(counts[1], 'warning')} in {records:,} records")


def data_check(paths: Sequence[str], emit: Callable[[Event], None]) -> DataChecked:
    """Audit the recipes' data, each as its recipe divides it, and all plain files together.

    Raises RecipeError for a recipe that does not hold; whatever is wrong with the data is among the findings.
    """
    audits = []
    files = [path for path in paths if not path.lower().endswith(RECIPES)]
    if files:
        data = Data(sources=tuple(Source(path=path) for path in files))
        with _spool() as folder:
            audits.append(_told(examine(data, root=Path.cwd(), folder=folder, emit=emit, divide=not_at_all)))
    for path in paths:
        if path not in files:
            from sartor.recipe.load import load

            loaded = load(path)
            with _spool() as folder:
                audit = examine(loaded.recipe.data, root=loaded.root, folder=folder, emit=emit, divide=by_shares)
                audits.append(_told(audit))
    return DataChecked(
        files=tuple(file for audit in audits for file in audit.files),
        samples=tuple(sample for audit in audits for sample in audit.samples),
        findings=tuple(problem for audit in audits for problem in audit.findings),
        splits=tuple(split for audit in audits for split in audit.splits),
        likeness=tuple(likeness for audit in audits for likeness in audit.likeness),
    )


@contextmanager
def _spool() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sartor-") as folder:
        yield Path(folder)


def _told(audit: Audit) -> DataChecked:
    """The audit without its data set, which lies in a folder that goes away."""
    body = audit.findings.json()
    first = {found.sample.origin.file: found.sample for found in audit.recognised}
    nothing = ("", "")
    samples = [
        (_line(asked(first[path])), _line(answered(first[path]))) if path in first else nothing
        for path in (file["path"] for file in body["files"])
    ]
    divided = audit.splits is not None and audit.splits.divided
    return DataChecked(
        files=tuple(body["files"]),
        samples=tuple(samples),
        findings=tuple(audit.findings.problems),
        splits=(audit.splits.json(),) if audit.splits and divided else (),
        likeness=(str(audit.splits.residual or "nothing to compare"),) if audit.splits and divided else (),
    )


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def _parts(split: dict[str, Any]) -> str:
    counts = "   ".join(f"{name} {split['rows'][name]:,}" for name in PARTS)
    left_out = f"   left out {split['left_out']:,}" if split["left_out"] else ""
    clusters = split["clusters"]
    return f"{counts}{left_out}   {clusters['count']:,} clusters, the largest of {_plural(clusters['largest'], 'row')}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
