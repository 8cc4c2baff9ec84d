"""From the recipe's data section to rows that are read, divided and checked, with a record of every one of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sartor import registry
from sartor.data import watching
from sartor.data.augmentation import Making, augment, tell
from sartor.data.bias import audit as bias
from sartor.data.bias.disparity import Disparity
from sartor.data.cleaning import Roles, spool
from sartor.data.dataset import INDEX, ROWS, Dataset
from sartor.data.findings import Findings
from sartor.data.groups import Rows
from sartor.data.kept import keep, kept, key_of
from sartor.data.leaks import guard
from sartor.data.ledger import CHANGED, REMOVED, SUGGESTED, Step
from sartor.data.ledger import FILES as LEDGER
from sartor.data.making import Means
from sartor.data.pieces import Workshop
from sartor.data.reader import Reader
from sartor.data.reading import Recognised
from sartor.data.rows import COMPARED
from sartor.data.split import PARTS, Splits, split, undivided
from sartor.errors import DataError, Problem
from sartor.events import Event, Progressed
from sartor.recipe.schema import Data

Emit = Callable[[Event], None]
Divide = Callable[[Dataset, Data, Roles, Callable[[int], None]], Splits]

MANIFEST, DROPPED, FINDINGS = "manifest.json", "dropped.jsonl", "findings.json"
SPLITS, KEPT = "splits.columns", "prepared.json"
WORK = ".preparing"
TASKS = {"text": "pretrain", "scored": "regress", "labelled": "classify", "tagged": "tag"} | dict.fromkeys(
    COMPARED, "prefer"
)
"""Kind of rows -> the task they speak for, where the kind says it."""
ALONE = Means()
"""Nobody is asked."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found in the data, good and bad. `findings` holds every problem; nothing was raised."""

    dataset: Dataset
    splits: Splits | None
    """None where there was no row to divide or the division failed; the reason is among the findings."""
    findings: Findings
    recognised: list[Recognised]
    """What each of the first hundred files turned out to be."""
    task: str
    """classify, pretrain or chat, by the kind of the rows."""
    cleaned: list[Step]
    """What each stage of `data.clean` did."""
    sources: dict[str, int]
    """The number of the source that each file with rows belongs to."""
    disparities: list[Disparity]
    """Every comparison of training rows about groups of people."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows without a fault that stops a run, and their parts."""

    dataset: Dataset
    splits: Splits
    findings: Findings
    recognised: list[Recognised]
    """What each of the first hundred files turned out to be; nothing where the rows were prepared before."""
    task: str
    cleaned: list[Step]
    """What each stage of `data.clean` did."""
    sources: dict[str, int]
    """The number of the source that each file with rows belongs to."""
    augmented: list[Making] = field(default_factory=list)
    """What each way of `data.augment` made."""

    @property
    def originals(self) -> NDArray[np.bool_]:
        """[n] whether a row was read, not made."""
        read = len(self.dataset) - sum(making.made for making in self.augmented)
        return np.arange(len(self.dataset)) < read

    def source_of(self, rows: Rows) -> NDArray[np.int64]:
        """[k] the number of the source of each of these rows."""
        by_file = np.array([self.sources[file] for file in self.dataset.files], np.int64)
        return by_file[self.dataset.index.file[rows]]

    def write(self, folder: Path) -> None:
        """Write dropped.jsonl and findings.json; again, when later stages have dropped more rows."""
        _replace(folder / DROPPED, chain(_dropped(self.findings), _removed(folder)))
        _replace(folder / FINDINGS, iter([json.dumps(self.findings.json(), ensure_ascii=False, indent=1), "\n"]))


def prepare(data: Data, *, root: Path, folder: Path, emit: Emit, means: Means = ALONE) -> Prepared:
    """Read all sources, divide the rows, run every check, make further training rows, and write the record into `folder`.

    Where `folder` holds all of that already, made of the same data in the same way, it is opened. Raises DataError with
    all problems of level error; `data.on_bad: skip` forgives those of single rows. `folder` is as before then.
    """
    key = key_of(data, root, means)
    about = kept(folder / KEPT, key) if key else None
    if about is not None:
        splits, findings = Splits.open(folder / SPLITS), Findings.restore(about["findings"])
        cleaned = [Step(**step) for step in about["cleaned"]]
        made = [Making(**step) for step in about["augmented"]]
        return Prepared(Dataset.open(folder), splits, findings, [], about["task"], cleaned, about["sources"], made)
    work = folder / WORK
    try:
        audit = examine(data, root=root, folder=work, emit=emit, divide=by_shares)
        errors = audit.findings.errors
        if errors or audit.splits is None:
            raise DataError(*errors)
        dataset, splits, made = augmented(audit, audit.splits, data, root, folder, means, emit)
        splits.write(work / SPLITS)
        (folder / KEPT).unlink(missing_ok=True)
        for place, name in ((dataset.folder, ROWS), (dataset.folder, INDEX), (work, SPLITS)):
            os.replace(place / name, folder / name)
        for name in LEDGER:
            (folder / name).unlink(missing_ok=True)
            if (work / name).exists():
                os.replace(work / name, folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    dataset, splits = Dataset.open(folder), Splits.open(folder / SPLITS)
    prepared = Prepared(
        dataset, splits, audit.findings, audit.recognised, audit.task, audit.cleaned, audit.sources, made
    )
    _replace(folder / MANIFEST, _manifest(prepared))
    prepared.write(folder)
    if key is not None:
        told = {
            "task": audit.task,
            "findings": audit.findings.state(),
            "cleaned": [asdict(step) for step in audit.cleaned],
            "sources": audit.sources,
            "augmented": [asdict(making) for making in made],
        }
        written = [name for name in LEDGER if (folder / name).exists()]
        keep(folder / KEPT, key, (ROWS, INDEX, SPLITS, MANIFEST, *written), told)
    return prepared


def augmented(
    audit: Audit, splits: Splits, data: Data, root: Path, folder: Path, means: Means, emit: Emit
) -> tuple[Dataset, Splits, list[Making]]:
    """The audited rows and those that `data.augment` makes of the training rows; the findings tell what that changed.

    Answers of models are kept in `folder`.
    """
    dataset, splits, made = _augmented(audit, splits, data, root, folder, means, emit)
    used = ["augmentation"] * bool(made) + ["weighing"] * (data.bias.reweigh is not None)
    if used:
        bias.compare(
            audit.disparities,
            dataset,
            splits,
            data.bias,
            root,
            audit.findings,
            how=" and ".join(used),
            file=data.sources[0].path,
        )
    return dataset, splits, made


def _augmented(
    audit: Audit, splits: Splits, data: Data, root: Path, folder: Path, means: Means, emit: Emit
) -> tuple[Dataset, Splits, list[Making]]:
    dataset = audit.dataset
    if not data.augment:
        return dataset, splits, []
    replays = np.array([data.sources[audit.sources[file]].role == "replay" for file in dataset.files], np.bool_)
    whole, parts, made = augment(
        dataset,
        splits,
        data.augment,
        replayed=replays[dataset.index.file],
        near_duplicates=data.split.near_duplicates,
        findings=audit.findings,
        folder=dataset.folder,
        answers=folder,
        root=root,
        means=means,
        emit=emit,
    )
    tell(made, data.sources[0].path, audit.findings)
    return whole, parts, made


def by_shares(dataset: Dataset, data: Data, roles: Roles, seen: Callable[[int], None]) -> Splits:
    """Divide as data.split says. Raises DataError D118 for rows of different kinds, and what `split` raises."""
    _require_one_kind(dataset)
    shares = data.split
    return split(
        dataset,
        train=shares.train,
        validation=shares.validation,
        test=shares.test,
        near_duplicates=shares.near_duplicates,
        seed=shares.seed,
        stratify=_column(data),
        fixed=roles,
        seen=seen,
    )


def not_at_all(dataset: Dataset, data: Data, roles: Roles, seen: Callable[[int], None]) -> Splits:
    """Leave all rows together: for looking at a file."""
    return undivided(dataset, data.split.near_duplicates, seen=seen)


def examine(data: Data, *, root: Path, folder: Path, emit: Emit, divide: Divide) -> Audit:
    """Read, divide and check. Problems go to the findings, never to an exception; rows are spooled into `folder`."""
    reader = Reader(data, root, emit)
    findings, splits, disparities = reader.findings, None, list[Disparity]()
    with Workshop(data.clean, folder / "pieces") as workshop:
        dataset, roles, cleaned = spool(reader.flow(workshop), data.clean, folder, emit)
        if data.on_bad == "skip":
            findings.forgive()
        if len(dataset):
            splits = _divided(dataset, data, roles, findings, emit, divide)
        elif not findings.errors:
            fix = "see the findings above"
            findings.add(Problem("D100", "no records are left", file=data.sources[0].path, fix=fix))
        _note_cleaned(cleaned, data, findings)
        if splits is not None:
            _note_left_out(dataset, splits, findings)
            splits = guard(dataset, splits, data, root, findings, emit)
            checks = _checks(dataset, splits, workshop, emit)
            disparities = _disparities(dataset, splits, data, root, findings, emit)
            for problem in checks():
                findings.add(problem)
    return Audit(
        dataset,
        splits,
        findings,
        reader.recognised,
        _task(dataset, data, reader.sources),
        cleaned,
        reader.sources,
        disparities,
    )


def _disparities(
    dataset: Dataset, splits: Splits, data: Data, root: Path, findings: Findings, emit: Emit
) -> list[Disparity]:
    def seen(done: int) -> None:
        emit(Progressed("comparing groups", done))

    try:
        return bias.audit(dataset, splits, data.bias, root, findings, seen)
    except DataError as fault:
        for problem in fault.problems:
            findings.add(problem)
    return []


def _task(dataset: Dataset, data: Data, sources: Mapping[str, int]) -> str:
    """The task the rows speak for that are not replayed: classify where all have labels, regress for numbers, tag for
    words with tags, pretrain for raw text, prefer for answers that were compared or judged, else chat."""
    if len(dataset.kinds) == 1 and dataset.kinds[0] in TASKS:
        return TASKS[dataset.kinds[0]]
    ours = [data.sources[sources[file]].role != "replay" for file in dataset.files]
    labels = dataset.index.label[np.array(ours, np.bool_)[dataset.index.file]]
    return "classify" if len(labels) and bool((labels >= 0).all()) else "chat"


def _column(data: Data) -> str | None:
    """The column to stratify by under our own name."""
    column = data.split.stratify
    mapped = any(source.map.get("label") == column for source in data.sources)
    return "label" if column is not None and mapped else column


def _require_one_kind(dataset: Dataset) -> None:
    """No objective learns from rows of two kinds."""
    if len(dataset.kinds) < 2:
        return
    _, first = np.unique(dataset.index.kind, return_index=True)
    one, other, *_ = np.sort(first)
    names = [dataset.kinds[dataset.index.kind[row]] for row in (one, other)]
    origin = dataset.origin(int(other))
    what = f"this row is of kind {names[1]}, {dataset.origin(int(one))} is of kind {names[0]}: one run learns from one kind"
    fix = "give each kind its own recipe, or say what the file is with   format:"
    raise DataError(Problem("D118", what, file=origin.file, line=origin.line, fix=fix))


def _divided(
    dataset: Dataset, data: Data, roles: Roles, findings: Findings, emit: Emit, divide: Divide
) -> Splits | None:
    try:
        return divide(dataset, data, roles, lambda done: emit(Progressed("comparing rows", done, len(dataset))))
    except DataError as fault:
        # Too few rows says nothing new where rows are missing because they are faulty.
        for problem in fault.problems:
            if problem.code != "D154" or not findings.errors:
                findings.add(problem)
    return None


def _note_cleaned(cleaned: list[Step], data: Data, findings: Findings) -> None:
    """D190 for each stage that did something; the rows themselves are in the files of the ledger."""
    for step in cleaned:
        done = (
            (step.changed, "changed", CHANGED),
            (step.dropped, "left out", DROPPED),
            (step.suggested, "could be changed", SUGGESTED),
        )
        told = [f"{count:,} {what}" for count, what, _ in done if count]
        if told:
            what = f"clean.{step.stage}: of {step.rows:,} rows {', '.join(told)}"
            fix = (
                f"nothing needs doing; a run names each row in {' and '.join(name for count, _, name in done if count)}"
            )
            findings.add(Problem("D190", what, file=data.sources[0].path, fix=fix, level="info"))


def _note_left_out(dataset: Dataset, splits: Splits, findings: Findings) -> None:
    left_out = splits.left_out
    if not len(left_out):
        return
    for row, twin in zip(left_out, splits.twins, strict=True):
        findings.drop(dataset.origin(int(row)), "leak", f"belongs with the held-out row {dataset.origin(int(twin))}")
    for file, rows in groupby(left_out, key=lambda row: dataset.files[dataset.index.file[row]]):
        lines = [dataset.origin(int(row)).line for row in rows]
        what = f"{len(lines):,} rows belong with rows given for validation or test; they are left out of training"
        fix = "nothing needs doing; dropped.jsonl names each with its twin"
        findings.add(Problem("D157", what, file=file, line=lines[0], rows=tuple(lines[1:1000]), fix=fix, level="info"))


def _checks(dataset: Dataset, splits: Splits, workshop: Workshop, emit: Emit) -> Callable[[], Iterator[Problem]]:
    """What all checks find, once it is asked for; where rows are many, others have begun to look."""
    names = registry.names("check")

    def done(count: int) -> None:
        emit(Progressed("checking", count, len(names)))

    crew = workshop.checkers(dataset)
    if crew is None:
        return lambda: watching.findings(names, dataset, splits, done)
    return watching.begin(crew, names, dataset, splits, done)


def _manifest(prepared: Prepared) -> Iterator[str]:
    """One JSON object with one line per row."""
    dataset, splits = prepared.dataset, prepared.splits
    facts: dict[str, Any] = {
        "version": 1,
        "task": prepared.task,
        "fingerprint": dataset.fingerprint,
        "files": prepared.findings.json()["files"],
        "split": splits.json(),
    }
    yield json.dumps(facts, ensure_ascii=False)[:-1] + ',\n"rows": [\n'
    plain = json.JSONEncoder(ensure_ascii=False).encode
    names, read = dict(enumerate(PARTS)) | {-1: "left out"}, prepared.originals
    for row, identity in enumerate(dataset.identities()):
        origin, digest, part = plain(str(dataset.origin(row))), dataset.content_hash(row), names[int(splits.part[row])]
        parent = "" if read[row] else f', "parent": {plain(str(dataset[row].parent))}'
        end = ",\n" if row < len(dataset) - 1 else "\n"
        yield f'{{"id": {plain(identity)}, "origin": {origin}, "hash": "{digest}", "part": "{part}"{parent}}}{end}'
    yield "]}\n"


def _dropped(findings: Findings) -> Iterator[str]:
    for origin, rule, reason in findings.dropped:
        entry = {"row": str(origin), "file": origin.file, "line": origin.line, "rule": rule, "reason": reason}
        yield json.dumps(entry, ensure_ascii=False) + "\n"


def _removed(folder: Path) -> Iterator[str]:
    """The lines of rows that cleaning left out."""
    if (folder / REMOVED).exists():
        with (folder / REMOVED).open(encoding="utf-8") as file:
            yield from file


def _replace(path: Path, pieces: Iterator[str]) -> None:
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(pieces)
    os.replace(temporary, path)
