"""The folder of one annotation job: what is asked, its rows, and a log for each annotator.

job.json                   kind, labels, overlap, seed: the same for all annotators
rows.jsonl                 the rows as they are shown, so that the folder stands by itself
guidelines.md              where there are any
marks/NAME.jsonl           everything NAME did, in order; the only truth about answers
adjudications/NAME.jsonl   what was decided where annotators disagree
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

from sartor.data.annotate.items import Item
from sartor.data.annotate.log import Follower
from sartor.data.annotate.marks import Mark, Sheet
from sartor.errors import DataError, Problem

JOB, ROWS, GUIDELINES, MARKS, ADJUDICATIONS = "job.json", "rows.jsonl", "guidelines.md", "marks", "adjudications"


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked; fixed when the folder is begun, but for labels that are added at the end."""

    kind: Literal["label", "rank"]
    labels: tuple[str, ...] = ()
    ordinal: bool = False
    """Whether the labels are steps of a scale, lowest first."""
    overlap: float = 0.0
    """Share of rows that every annotator gets; each other row is for whoever comes first."""
    seed: int = 0


class Board:
    """What all annotators have done so far; `look` reads what they have added."""

    def __init__(self, folder: Path) -> None:
        self.sheets: dict[str, Sheet] = {}
        self._folder = folder
        self._followers: dict[str, Follower] = {}

    def look(self) -> None:
        """Read what is new. Raises DataError A106 for a damaged log."""
        for path in sorted(self._folder.glob("*.jsonl")):
            follower = self._followers.setdefault(path.stem, Follower(path))
            sheet = self.sheets.setdefault(path.stem, Sheet())
            for mark in follower.new():
                sheet.see(mark)

    def answers(self, row: str) -> dict[str, Mark]:
        """Annotator -> answer to this row."""
        return {name: sheet.answers[row] for name, sheet in self.sheets.items() if row in sheet.answers}


@dataclass(frozen=True, slots=True)
class Workspace:
    """An annotation folder that was begun."""

    folder: Path
    job: Job
    items: tuple[Item, ...]
    guidelines: str = ""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises DataError A107 where nothing was begun or a file of it is damaged."""
        if not (folder / JOB).exists():
            fix = "give the folder that was named with --out"
            raise DataError(
                Problem("A107", "no labels or rankings were begun in this folder", file=str(folder), fix=fix)
            )
        try:
            body = json.loads((folder / JOB).read_bytes())
            job = Job(**{**body, "labels": tuple(body["labels"])})
            with (folder / ROWS).open(encoding="utf-8") as file:
                items = tuple(Item.of_json(json.loads(line)) for line in file)
        except (ValueError, TypeError, KeyError, FileNotFoundError) as fault:
            what = f"{JOB} or {ROWS} is missing or damaged"
            fix = "the answers in marks/ are untouched: restore the two files from a copy"
            raise DataError(Problem("A107", what, file=str(folder), fix=fix)) from fault
        text = folder / GUIDELINES
        return cls(folder, job, items, text.read_text(encoding="utf-8") if text.exists() else "")

    @classmethod
    def begin(cls, folder: Path, job: Job, items: Sequence[Item], guidelines: str | None = None) -> Self:
        """Begin the job, or go on with it: labels and rows may be added, anything else must be as it was.

        Raises DataError A103 for another kind, overlap, seed or scale, A102 for labels that are gone or in another order.
        """
        folder.mkdir(parents=True, exist_ok=True)
        others = [entry for entry in folder.iterdir() if entry.name[0] != "." and entry.name not in (ROWS, GUIDELINES)]
        if others and not (folder / JOB).exists():
            what = "the folder holds other things, and no labels or rankings were begun in it"
            raise DataError(Problem("A107", what, file=str(folder), fix="give a new folder as --out"))
        with _alone(folder):
            known: tuple[Item, ...] = ()
            if (folder / JOB).exists():
                before = cls.open(folder)
                _refuse_others(folder, before.job, job)
                known = before.items
            keys = {item.key for item in known}
            items = (*known, *(item for item in items if item.key not in keys))
            if len(items) > len(known):
                lines = "".join(json.dumps(item.json(), ensure_ascii=False) + "\n" for item in items)
                _put(folder / ROWS, lines)
            if guidelines is not None:
                _put(folder / GUIDELINES, guidelines)
            _put(folder / JOB, json.dumps(asdict(job), ensure_ascii=False, indent=2) + "\n")
        return cls.open(folder)

    def board(self, kind: str = MARKS) -> Board:
        """What was done so far, in marks or adjudications."""
        board = Board(self.folder / kind)
        board.look()
        return board

    def only(self, items: Sequence[Item]) -> Self:
        """The same job with some of its rows, each for whoever comes first."""
        return replace(self, items=tuple(items), job=replace(self.job, overlap=0.0))


def _refuse_others(folder: Path, before: Job, now: Job) -> None:
    where = str(folder / JOB)
    if before.labels != now.labels[: len(before.labels)]:
        gone = [label for label in before.labels if label not in now.labels]
        what = f"labels that were used here are gone: {', '.join(gone)}" if gone else "the labels are in another order"
        fix = f"give them as they were, new ones at the end: --labels {','.join(before.labels)}"
        raise DataError(Problem("A102", what, file=where, fix=fix))
    changed = [name for name in ("kind", "overlap", "seed", "ordinal") if getattr(before, name) != getattr(now, name)]
    if changed:
        said = ", ".join(f"{name} was {getattr(before, name)} and is {getattr(now, name)}" for name in changed)
        what = f"this folder was begun with other settings: {said}"
        raise DataError(Problem("A103", what, file=where, fix="give the same settings, or another --out"))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Several annotators may start at the same moment."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _put(path: Path, text: str) -> None:
    """The old content or the new one is there at any moment."""
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
