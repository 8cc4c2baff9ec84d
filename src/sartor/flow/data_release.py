"""Writes the parts of a data set as files that other tools read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data import release as forms
from sartor.data.rows import Row
from sartor.data.sources import parquet
from sartor.data.split import PARTS
from sartor.data.versions import SHORT
from sartor.errors import DataError, Problem
from sartor.flow.data_versions import opened
from sartor.store.atomic import coded

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.flow.prepare import Emit


@dataclass(frozen=True, slots=True)
class Released:
    """The files that were written, and how many rows each has."""

    folder: Path
    form: str
    version: str
    files: dict[str, int]
    skipped: list[str]
    """Rows that this form cannot hold."""

    def json(self) -> dict[str, Any]:
        """Everything as one object."""
        names = ("form", "version", "files", "skipped")
        return {"folder": str(self.folder), **{name: getattr(self, name) for name in names}}

    def render(self, console: Console) -> None:
        """One line a file, and what was left out."""
        from sartor.console import printable

        for name, count in self.files.items():
            console.print(f" {count:>9,} rows   {printable(str(self.folder / name))}", soft_wrap=True)
        if self.skipped:
            rows = ", ".join(self.skipped[:5]) + (" ..." if len(self.skipped) > 5 else "")
            what = f" {len(self.skipped):,} rows have no form in {self.form} and are left out: {rows}"
            console.print(printable(what), style="yellow", soft_wrap=True)


def release(target: str, form: str, out: Path, emit: Emit) -> Released:
    """Write every part of the data of `target` (a run, snapshot, recipe or file) into the new folder `out`.

    Raises DataError D194 where `out` exists, D177 where no row has this form, D119 where a library is missing.
    """
    if out.exists():
        raise DataError(Problem("D194", "the folder exists already", file=str(out), fix="another --out"))
    with opened(target, emit) as found:
        work = out.with_name(f".tmp-{out.name}")
        shutil.rmtree(work, ignore_errors=True)
        with coded(out):
            work.mkdir(parents=True)
        files: dict[str, int] = {}
        skipped: list[str] = []
        columns: dict[str, None] = {}
        try:
            for part in PARTS:
                rows = found.held.dataset.subset(found.held.splits.indices(part))
                if not len(rows):
                    continue
                name, count = _write(work, part, form, rows, skipped, columns)
                files[name] = count
            if not any(files.values()):
                what = f"no row can be written as {form}"
                raise DataError(Problem("D177", what, file=target, fix="--as jsonl"))
            if form == "hub":
                names = {Path(name).name.partition("-")[0]: name for name in files}
                counts = {part: files[name] for part, name in names.items()}
                version = found.version.digest
                (work / "README.md").write_text(
                    forms.card(out.name, names, counts, version[:SHORT], list(columns)), encoding="utf-8"
                )
            os.replace(work, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return Released(out, form, found.version.digest, files, skipped)


def _write(
    folder: Path, part: str, form: str, rows: Iterable[Row], skipped: list[str], columns: dict[str, None]
) -> tuple[str, int]:
    def records() -> Iterator[dict[str, Any]]:
        for row in rows:
            record = forms.openai(row) if form == "openai" else forms.plain(row)
            if record is None:
                skipped.append(str(row.origin))
                continue
            columns.update(dict.fromkeys(record))
            yield record

    if form in ("parquet", "hub"):
        name = f"{part}.parquet" if form == "parquet" else f"data/{part}-00000-of-00001.parquet"
        (folder / name).parent.mkdir(exist_ok=True)
        return name, parquet.write(records(), folder / name)
    name, count = f"{part}.jsonl", 0
    with (folder / name).open("w", encoding="utf-8") as file:
        for record in records():
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return name, count
