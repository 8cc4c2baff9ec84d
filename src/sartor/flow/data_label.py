"""Begins or goes on with the labelling of a file by people, and imports labels that were given elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.console import printable
from sartor.data.annotate import guidelines as guide
from sartor.data.annotate import label_studio, openai, order
from sartor.data.annotate.items import Item, to_label
from sartor.data.annotate.label_studio import Given
from sartor.data.annotate.log import Log, named
from sartor.data.annotate.marks import Mark
from sartor.data.annotate.queue import Queue
from sartor.data.annotate.resolve import disagreed, latest, votes
from sartor.data.annotate.session import Session
from sartor.data.annotate.workspace import ADJUDICATIONS, JOB, MARKS, Board, Job, Workspace
from sartor.data.paths import expand
from sartor.errors import DataError, Problem
from sartor.events import Event
from sartor.flow.suggest import suggestions
from sartor.store import atomic

if TYPE_CHECKING:
    from rich.console import Console

INFORMATIVE, FILE, RANDOM = "informative", "file", "random"
ORDERS = (INFORMATIVE, FILE, RANDOM)
MEASURES: Mapping[str, order.Uncertainty] = {"entropy": order.entropy, "margin": order.margin}
MOST_LABELS = 500


@dataclass(frozen=True, slots=True)
class Settings:
    """What all annotators of a folder share; None is what the folder was begun with, else nothing special."""

    labels: tuple[str, ...] | None = None
    ordinal: bool | None = None
    overlap: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Annotated:
    """Where an annotator stands."""

    folder: str
    kind: str
    annotator: str
    done: int
    left: int
    skipped: int
    flagged: int
    suggested: int
    """Answers given while a suggestion was on screen."""
    followed: int
    """Of these, answers equal to it."""

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def render(self, console: Console) -> None:
        """Two or three lines."""
        asides = [
            f"{count:,} {name}" for name, count in (("skipped", self.skipped), ("flagged", self.flagged)) if count
        ]
        facts = "   ".join([f"{self.done:,} done", f"{self.left:,} left", *asides])
        console.print(printable(f" {self.annotator}   {facts}   {self.folder}"), soft_wrap=True)
        if self.suggested:
            share = self.followed / self.suggested
            console.print(f" suggestions followed   {self.followed:,} of {self.suggested:,} ({share:.0%})")
        verb = "data label" if self.kind == "label" else "data rank"
        after = f"sartor {verb} --out {self.folder} --export FILE" if self.done else ""
        if after:
            console.print(printable(f" write them down   {after}"), style="dim", soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Imported:
    """What was taken from a file of another tool."""

    folder: str
    rows: int
    answers: int
    annotators: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {"folder": self.folder, "rows": self.rows, "answers": self.answers, "annotators": list(self.annotators)}

    def render(self, console: Console) -> None:
        """One line."""
        by = ", ".join(self.annotators)
        console.print(
            printable(f" {self.rows:,} rows, {self.answers:,} answers by {by}   {self.folder}"), soft_wrap=True
        )


def begin(file: str | None, folder: Path, *, settings: Settings, guidelines: Path | None) -> Workspace:
    """The folder with the rows of `file` in it.

    Raises DataError with every bad row, A101 where it is not said which labels there are, A102 or A103 where the folder was
    begun with others, A107 where there is neither a file nor a folder that was begun.
    """
    before = Workspace.open(folder).job if (folder / JOB).exists() else None
    if file is None and before is None:
        what = "there is nothing to label yet"
        raise DataError(
            Problem("A107", what, file=str(folder), fix="name a file: sartor data label FILE --labels a,b --out DIR")
        )
    text = read_guidelines(guidelines)
    labels = settings.labels or (tuple(guide.labels(text)) if text else ()) or (before.labels if before else ())
    _check_labels(labels, guidelines)
    job = _job("label", labels, settings, before)
    items: Sequence[Item] = ()
    if file is not None:
        items = [item for path in expand(file, Path.cwd()) for item in to_label(path, label=_shown(path, file))]
        items = _distinct(items)
    with atomic.coded(folder):
        return Workspace.begin(folder, job, items, text)


def suggested(workspace: Workspace, model: str, emit: Callable[[Event], None]) -> order.Probabilities:
    """What a model says about every row. Raises ModelError, TokenError."""
    return suggestions(model, workspace.items, workspace.job.labels, workspace.folder, emit)


@contextmanager
def labelling(
    workspace: Workspace,
    annotator: str,
    *,
    ordering: str,
    known: order.Probabilities,
    measure: str,
    skipped: bool,
) -> Iterator[Session]:
    """A session on the workspace's rows; its log is held until the end of the block. `known` is what a model suggests."""
    places = places_of(workspace, ordering, known, MEASURES[measure])
    with working(workspace, annotator, places, ordering, skipped, probabilities=known) as session:
        yield session


@contextmanager
def adjudicating(folder: Path, adjudicator: str) -> Iterator[tuple[Workspace, Session]]:
    """A session on the rows that have different labels, with what each annotator said; decisions go to a place of their own.

    Raises DataError A107, A108 for rankings, whose pairs are settled by the number of votes.
    """
    workspace = Workspace.open(folder)
    if workspace.job.kind != "label":
        what = "rankings need no adjudication: each pair goes to the answer that more annotators prefer"
        raise DataError(Problem("A108", what, file=str(folder), fix="sartor data rank --out DIR --export FILE"))
    sheets = workspace.board().sheets
    rows = workspace.only(disagreed(workspace.items, sheets))
    said = {item.key: tuple(votes(sheets, item.key).items()) for item in rows.items}
    places = list(range(len(rows.items)))
    with working(rows, adjudicator, places, FILE, False, kind=ADJUDICATIONS, votes=said) as session:
        yield rows, session


@contextmanager
def working(
    workspace: Workspace,
    annotator: str,
    places: Sequence[int],
    ordering: str,
    skipped: bool,
    *,
    kind: str = MARKS,
    probabilities: order.Probabilities | None = None,
    votes: Mapping[str, tuple[tuple[str, str], ...]] | None = None,
) -> Iterator[Session]:
    """A session whose log is held until the end of the block. Raises DataError A104, A105."""
    path = workspace.folder / kind / f"{named(annotator)}.jsonl"
    with atomic.coded(path):
        log = Log(path)
    try:
        board = Board(workspace.folder / kind)
        board.look()
        shared = order.shared(workspace.items, workspace.job.overlap, workspace.job.seed)
        first = ordering == INFORMATIVE
        queue = Queue(workspace.items, places, shared, board, annotator, disagreed_first=first)
        if skipped:
            queue.again()

        def append(mark: Mark) -> None:
            with atomic.coded(path):
                log.append(mark)

        session = Session(annotator, workspace.job, queue, append, board, probabilities or {}, votes or {})
        try:
            yield session
        finally:
            session.leave()
    finally:
        log.close()


def places_of(
    workspace: Workspace, ordering: str, known: order.Probabilities, measure: order.Uncertainty
) -> Sequence[int]:
    """The order of the rows: as in the file, shuffled, or the most informative first."""
    if ordering == FILE:
        return range(len(workspace.items))
    if ordering == RANDOM:
        return order.shuffled(workspace.items, workspace.job.seed)
    if known:
        return order.uncertain(workspace.items, known, measure)
    return order.diverse(workspace.items, workspace.job.seed)


def standing(folder: Path, session: Session) -> Annotated:
    """Where the annotator of a session stands."""
    sheet, view = session.sheet, session.view()
    asked = [mark for mark in sheet.answers.values() if mark.suggestion is not None]
    followed = sum(mark.followed is True for mark in asked)
    return Annotated(
        folder=str(folder),
        kind=session.job.kind,
        annotator=session.annotator,
        done=view.done,
        left=view.left,
        skipped=view.skipped,
        flagged=len(sheet.flagged),
        suggested=len(asked),
        followed=followed,
    )


def take_in(file: Path, folder: Path, *, kind: str, annotator: str, settings: Settings) -> Imported:
    """Rows and answers of a Label Studio export, or of OpenAI chat or preference lines, as if they had been given here.

    Answers of the file go to the log of whoever gave them, chat and preference lines to `annotator`. An answer that this
    annotator has given already, equal to it, is not repeated. Raises DataError A111 or A112 with every bad row.
    """
    (path,) = expand(str(file), Path.cwd())[:1]
    items, given = _foreign(path, str(file), named(annotator))
    ranked = any(item.answers for item in items)
    if ranked != (kind == "rank"):
        verb = "rank" if ranked else "label"
        what = f"this file holds {'rankings' if ranked else 'labels'}"
        raise DataError(Problem("A111", what, file=str(file), fix=f"sartor data {verb} --import {file} --out DIR"))
    before = Workspace.open(folder).job if (folder / JOB).exists() else None
    known = settings.labels or (before.labels if before else ())
    labels = tuple(dict.fromkeys([*known, *sorted({one.label for one in given if one.label is not None})]))
    with atomic.coded(folder):
        workspace = Workspace.begin(folder, _job(kind, labels, settings, before), items)
    people = sorted({one.annotator for one in given})
    count = sum(_write(workspace, person, [one for one in given if one.annotator == person]) for person in people)
    return Imported(str(folder), len(items), count, tuple(people))


def _write(workspace: Workspace, annotator: str, given: Sequence[Given]) -> int:
    """Append answers to a log; how many were new."""
    path = workspace.folder / MARKS / f"{named(annotator)}.jsonl"
    count = 0
    with atomic.coded(path):
        log = Log(path)
        try:
            board = Board(path.parent)
            board.look()
            sheet = board.sheets[annotator]
            for one in given:
                before = sheet.answers.get(one.key)
                if before is not None and (before.label, before.ranking) == (one.label, one.ranking):
                    continue
                mark = Mark(
                    number=sheet.last + 1,
                    time=one.time,
                    annotator=annotator,
                    row=one.key,
                    action="label" if one.ranking is None else "rank",
                    label=one.label,
                    ranking=one.ranking,
                    seconds=one.seconds,
                )
                log.append(mark)
                sheet.see(mark)
                count += 1
        finally:
            log.close()
    return count


def _foreign(path: Path, label: str, annotator: str) -> tuple[list[Item], list[Given]]:
    with atomic.coded(path, verb="read"):
        text = path.read_bytes()
    if text.lstrip()[:1] == b"[":
        try:
            tasks = json.loads(text)
        except ValueError as fault:
            raise DataError(Problem("A111", f"this is no JSON: {fault}", file=label, fix="export as JSON")) from fault
        return label_studio.read(tasks, label=label)
    first = text.partition(b"\n")[0]
    if b'"preferred_output"' in first:
        return openai.read_preferences(path, label=label, annotator=annotator)
    return openai.read_chats(path, label=label, annotator=annotator)


def latest_decisions(workspace: Workspace) -> dict[str, Mark]:
    """Row -> what was adjudicated last."""
    return latest(workspace.board(ADJUDICATIONS).sheets)


def _job(kind: str, labels: tuple[str, ...], settings: Settings, before: Job | None) -> Job:
    """The job as it was or would be, with what the user says now."""
    held = before or Job(kind="label" if kind == "label" else "rank")
    said = {"ordinal": settings.ordinal, "overlap": settings.overlap, "seed": settings.seed}
    changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    return replace(held, kind="label" if kind == "label" else "rank", labels=labels, **changes)


def _check_labels(labels: Sequence[str], guidelines: Path | None) -> None:
    """Raises DataError A101 where labels cannot be chosen from."""
    if len(labels) < 2:
        found = f'only "{labels[0]}" is' if labels else "none are"
        where = str(guidelines) if guidelines else None
        fix = 'give --labels a,b,c, or list them in the guidelines under a heading "Labels": - refund: wants money back'
        raise DataError(Problem("A101", f"at least two labels are needed, {found} given", file=where, fix=fix))
    if len(set(labels)) < len(labels) or not all(label.strip() for label in labels) or len(labels) > MOST_LABELS:
        what = f"labels must differ, not be empty, and be {MOST_LABELS} at most"
        raise DataError(Problem("A101", what, fix="give --labels a,b,c"))


def read_guidelines(path: Path | None) -> str | None:
    """The text of the file, None without one. Raises DataError A101."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        what = f"the guidelines cannot be read: {getattr(fault, 'strerror', None) or 'they are not UTF-8'}"
        raise DataError(Problem("A101", what, file=str(path), fix="give a text file in UTF-8")) from fault


def _distinct(items: Sequence[Item]) -> list[Item]:
    """The items of several files; the same content in two of them is one row."""
    return list({item.key: item for item in reversed(items)}.values())[::-1]


def _shown(path: Path, given: str) -> str:
    return given if path.name == Path(given).name else str(path)
