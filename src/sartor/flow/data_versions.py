"""Keeps states of the data under the name of their content, and compares two of them row by row."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data.cleaning import spool
from sartor.data.dataset import INDEX, ROWS, Dataset
from sartor.data.ledger import CHANGED, SUGGESTED, difference
from sartor.data.making import Means
from sartor.data.pipeline import DROPPED, FINDINGS, MANIFEST, SPLITS, not_at_all
from sartor.data.pipeline import prepare as prepare_rows
from sartor.data.reader import Reader
from sartor.data.split import PARTS, Splits
from sartor.data.versions import SHORT, VERSION, Changes, Held, Version, changes, version_of
from sartor.errors import DataError, Problem, raise_errors
from sartor.recipe.load import load
from sartor.recipe.schema import Data, Source
from sartor.store import atomic

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.data.augmentation import Making
    from sartor.flow.prepare import Emit

RECIPES = (".yaml", ".yml")
KEPT = (ROWS, INDEX, SPLITS, MANIFEST, DROPPED, FINDINGS, CHANGED, SUGGESTED)
BESIDE = ("id", "parent", "stratum")
"""What follows from the rest of a row, or says where it comes from."""
SHOWN = 5
"""Rows of each kind that are shown."""
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Opened:
    """Rows and their parts, from wherever they were asked for."""

    name: str
    held: Held
    version: Version
    folder: Path
    """Where the files lie; it may go away."""


@contextmanager
def opened(target: str, emit: Emit) -> Iterator[Opened]:
    """The data of a run folder, a snapshot, a recipe or a file, read whatever a run would mind about it. Raises InputError."""
    path = Path(target).expanduser()
    for folder in (path / "data", path):
        if (folder / SPLITS).exists() and (folder / ROWS).exists():
            held = Held(Dataset.open(folder), Splits.open(folder / SPLITS))
            file = folder / VERSION
            told = Version.restore(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None
            yield Opened(target, held, told or version_of(*held, None), folder)
            return
    if path.is_dir() and not any(path.iterdir()):
        raise DataError(
            Problem("D113", "this folder is empty", file=target, fix="a run, a snapshot, a recipe or a file")
        )
    with tempfile.TemporaryDirectory(prefix="sartor-") as scratch:
        folder = Path(scratch)
        if path.suffix.lower() in RECIPES:
            loaded = load(path)
            means = Means(loaded.recipe.seed)
            rows = prepare_rows(loaded.recipe.data, root=loaded.root, folder=folder, emit=emit, means=means)
            _require_made(rows.augmented, target)
            held, data = Held(rows.dataset, rows.splits), loaded.recipe.data
        else:
            data = Data(sources=(Source(path=target),))
            held = _read(data, folder, emit)
            held.splits.write(folder / SPLITS)
        yield Opened(target, held, version_of(*held, data), folder)


def _read(data: Data, folder: Path, emit: Emit) -> Held:
    """The rows of a file, sound or not: what a training run would mind is not asked. Raises DataError for what cannot be read."""
    reader = Reader(data, Path.cwd(), emit)
    dataset, roles, _ = spool(reader.rows(), (), folder, emit)
    raise_errors(DataError, reader.findings.errors)
    return Held(dataset, not_at_all(dataset, data, roles, lambda done: None))


def _require_made(made: Sequence[Making], target: str) -> None:
    """Raises DataError D178 where rows are missing that a run would have had a model make."""
    for making in made:
        if making.pending:
            what = f"augment.{making.way} asks a model for rows, which only a run does"
            fix = "name the folder of a run of this recipe in place of the recipe"
            raise DataError(Problem("D178", what, file=target, fix=fix))


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot."""

    folder: Path
    version: Version
    new: bool

    def json(self) -> dict[str, Any]:
        """The version and where it lies."""
        return {"folder": str(self.folder), "new": self.new, **self.version.json()}

    def render(self, console: Console) -> None:
        """One line, and what is in it."""
        counts = "   ".join(f"{name} {count:,}" for name, count in self.version.counts.items() if count)
        console.print(f" version {self.version.digest[:SHORT]}   {counts}", soft_wrap=True)
        console.print(f" {'kept in' if self.new else 'there already:'} {self.folder}", soft_wrap=True)


def snapshot(target: str, store: Path, emit: Emit) -> Kept:
    """Keep the data of `target` in `store`, in a folder named by its content; nothing is written where it is there."""
    with opened(target, emit) as found:
        folder = store / found.version.digest[:SHORT]
        if (folder / atomic.COMPLETE).exists():
            problems = atomic.verify(folder)
            if problems:
                what = f"the snapshot is damaged: {problems[0]}"
                raise DataError(Problem("D193", what, file=str(folder), fix="remove the folder and take it again"))
            return Kept(folder, found.version, new=False)
        atomic.make_folder(store)
        files = [found.folder / name for name in KEPT if (found.folder / name).exists()]
        body = json.dumps(found.version.json(), ensure_ascii=False, indent=1) + "\n"
        writers = {file.name: partial(shutil.copyfile, file) for file in files}
        atomic.publish(
            folder,
            {**writers, VERSION: partial(_write, body)},
            about={"version": found.version.digest},
            needs=sum(file.stat().st_size for file in files),
        )
        return Kept(folder, found.version, new=True)


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Compared:
    """How the data of two targets differs."""

    old: str
    new: str
    versions: tuple[str, str]
    decided: Mapping[str, tuple[Any, Any]]
    """What of the transforms, renderer and order differs."""
    counts: Mapping[str, int]
    parts: Mapping[str, tuple[int, int]]
    """Rows of each part, before and after."""
    rows: Mapping[str, list[dict[str, Any]]]
    """added, removed, changed and moved rows."""

    def json(self) -> dict[str, Any]:
        """Everything, every row included."""
        names = ("old", "new", "versions", "decided", "counts", "parts", "rows")
        return {name: getattr(self, name) for name in names}

    def render(self, console: Console) -> None:
        """Counts, parts, and the first rows of each kind with what differs."""
        from rich.table import Table

        from sartor.console import printable

        if self.versions[0] == self.versions[1]:
            console.print(f" the same version: {self.versions[0][:SHORT]}")
            return
        console.print(
            f" {printable(self.old)} {self.versions[0][:SHORT]} -> {printable(self.new)} {self.versions[1][:SHORT]}"
        )
        console.print("   ".join(f" {name} {count:,}" for name, count in self.counts.items()), soft_wrap=True)
        table = Table(box=None, pad_edge=True)
        for name in ("part", "before", "after"):
            table.add_column(name, justify="left" if name == "part" else "right")
        for name, (before, after) in self.parts.items():
            table.add_row(name, f"{before:,}", f"{after:,}", style="bold" if before != after else None)
        console.print(table)
        for key, (before, after) in self.decided.items():
            console.print(printable(f" {key}: {_short(before)} -> {_short(after)}"), soft_wrap=True)
        for kind, style in (("removed", "red"), ("added", "green"), ("moved", "cyan"), ("changed", "yellow")):
            for entry in self.rows[kind][:SHOWN]:
                console.print(printable(f" {kind:<8} {entry['row']}{_note(entry)}"), style=style, soft_wrap=True)
                for path, before in entry.get("before", {}).items():
                    console.print(printable(f"   - {path}: {_short(before)}"), style="red", soft_wrap=True)
                    console.print(
                        printable(f"   + {path}: {_short(entry['after'][path])}"), style="green", soft_wrap=True
                    )
            if len(self.rows[kind]) > SHOWN:
                console.print(
                    f" ... and {len(self.rows[kind]) - SHOWN:,} more {kind}; --json lists them all", style="dim"
                )


def diff(old: str, new: str, emit: Emit) -> Compared:
    """Compare two runs, snapshots, recipes or files. Nothing is written."""
    with opened(old, emit) as one, opened(new, emit) as two:
        found = changes(one.held, two.held)
        return Compared(
            old=old,
            new=new,
            versions=(one.version.digest, two.version.digest),
            decided=dict(_decided(one.version, two.version)),
            counts={
                "same": found.same,
                "added": len(found.added),
                "removed": len(found.removed),
                "changed": len(found.changed),
                "moved": len(found.moved),
            },
            parts={name: (one.version.counts[name], two.version.counts[name]) for name in (*PARTS, "left out")},
            rows=_rows(one.held, two.held, found),
        )


def _decided(old: Version, new: Version) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key in sorted(old.transforms.keys() & new.transforms.keys()):
        if old.transforms[key] != new.transforms[key]:
            yield f"data.{key}", (old.transforms[key], new.transforms[key])
    if old.renderer and new.renderer and old.renderer != new.renderer:
        yield "tokenizer, template and mask", (old.renderer[:SHORT], new.renderer[:SHORT])
    if old.rows == new.rows and old.order != new.order:
        yield "order of the rows", (old.order[:SHORT], new.order[:SHORT])


def _rows(old: Held, new: Held, found: Changes) -> dict[str, list[dict[str, Any]]]:
    changed = []
    for before, after in found.changed:
        one, two = old.dataset[before], new.dataset[after]
        olds, news = difference(one, two)
        names = [name for name in olds if name not in BESIDE and not name.startswith("origin")]
        entry = {"before": {name: olds[name] for name in names}, "after": {name: news[name] for name in names}}
        changed.append({**_entry(new, after), **entry})
    return {
        "added": [_entry(new, int(row)) for row in found.added],
        "removed": [_entry(old, int(row)) for row in found.removed],
        "changed": changed,
        "moved": [{**_entry(new, after), "from": old.part(before)} for before, after in found.moved],
    }


def _entry(held: Held, row: int) -> dict[str, Any]:
    body = held.dataset[row]
    text = " ".join(f"{body.prompt_text()} {body.answer_text()}".split())
    return {"row": str(body.origin), "id": body.id, "part": held.part(row), "text": _short(text)}


def _note(entry: Mapping[str, Any]) -> str:
    if "from" in entry:
        return f"   {entry['from']} -> {entry['part']}"
    return "" if "before" in entry else f"   {entry['part']}   {entry['text']}"


def _short(value: Any) -> str:
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
