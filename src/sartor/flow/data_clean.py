"""Cleans data files, or the data of a recipe, into a folder from which every decision can be taken back."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data.cleaned import (
    RECORDED,
    STATE,
    Form,
    Original,
    Settings,
    Written,
    apply_rules,
    open_settings,
    originals,
    recorder,
    write_first,
)
from sartor.data.cleaning import Placed, spool
from sartor.data.formats._fields import nearest
from sartor.data.ledger import FILES, SUGGESTED, Step, entries
from sartor.data.paths import expand
from sartor.data.reader import Reader
from sartor.data.reading import records
from sartor.data.replay import Rule
from sartor.data.rows import Example, Row
from sartor.data.sources._record import Record
from sartor.errors import DataError, Problem, raise_errors
from sartor.events import Event, Progressed
from sartor.recipe.schema import Component, Data, Source
from sartor.store.atomic import coded, make_folder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Emit = Callable[[Event], None]
RECIPES = (".yaml", ".yml")
LOOKED_AT = 200
"""Rows by which stages are proposed."""
REASONS, SHOWN = 3, 2
AROUND, LONGEST = 60, 300
PIECE = re.compile(r"\s+|\w+|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DataCleaned:
    """What cleaning did, and where it lies."""

    out: Path
    written: Written
    stages: tuple[str, ...]
    """As they may stand in a recipe's `data.clean`."""
    proposed: bool
    """Nobody named stages; these are our proposal."""
    verb: str = "cleaned"

    def json(self) -> dict[str, Any]:
        """``{"out", "rows", "kept", "unread", "form", "stages": [...], "clean", "proposed"}``."""
        clean = f"[{', '.join(self.stages)}]"
        return {"out": str(self.out), **self.written.json(), "clean": clean, "proposed": self.proposed}

    def render(self, console: Console) -> None:
        """Print a table of the stages, some rows before and after, and where everything is."""
        from sartor.console import printable, table

        if self.proposed:
            console.print(
                " nobody named stages; these are a careful choice. Others: --stages, or data.clean in a recipe"
            )
        header = (" stage", "rows in", "changed", "left out", "suggested")
        rows = [
            (f" {step.stage}", *(f"{n:,}" for n in (step.rows, step.changed, step.dropped, step.suggested)))
            for step in self.written.steps
        ]
        table(console, header, rows)
        for step in self.written.steps:
            if told := _reasons(step):
                console.print(f" {step.stage}: {printable(told)}", soft_wrap=True)
        for step in self.written.steps:
            for example in step.examples[:SHOWN]:
                console.print(f"\n {step.stage}   {printable(example['row'])}", style="dim", soft_wrap=True)
                pairs = dict.fromkeys(
                    (str(old), str(example["after"][path])) for path, old in example["before"].items()
                )
                for old, new in list(pairs)[:SHOWN]:
                    plain = console.color_system is None
                    console.print(_difference(old, new, plain=plain), soft_wrap=True)
        left = f"{self.written.kept:,} of {self.written.read:,} rows are left"
        bad = f", {self.written.unread:,} could not be read (dropped.jsonl)" if self.written.unread else ""
        form = "" if self.written.form == "as read" else ", written in a form of ours (their columns differ)"
        console.print(f"\n {left}{bad}: {self.out / 'rows.jsonl'}{form}", soft_wrap=True)
        if any(step.stage == "redact" and step.changed for step in self.written.steps):
            console.print(" hand on rows.jsonl alone: the rest of the folder holds what was taken out", soft_wrap=True)
        if self.verb == "cleaned":
            console.print(f" in a recipe   data: {{clean: [{', '.join(self.stages)}]}}", soft_wrap=True)
            console.print(f" take it back  sartor data restore {self.out} --all   (or --stage, --row)", soft_wrap=True)
        for stage in dict.fromkeys(step.stage for step in self.written.steps if step.suggested):
            console.print(f" take it up    sartor data accept {self.out} --stage {stage}", soft_wrap=True)


def data_clean(targets: Sequence[str], *, stages: str | None, out: Path, emit: Emit) -> DataCleaned:
    """Clean files, or the data of one recipe, into the folder `out`.

    Args:
        targets: data files, or one recipe.
        stages: as on the command line, `unicode,duplicates=0.9`; None for the recipe's own, or else a proposal.
        out: a folder that is not there, is empty, or was written by this command before.
        emit: is told how far it is.

    Raises:
        DataError: a file cannot be read, `out` holds something else, or a stage refuses.
        RecipeError: the recipe or `stages` does not hold.
    """
    data, root = _data(targets)
    _require_free(out)
    _require_different(data, root)
    given = _stages(stages) if stages is not None else data.clean
    chosen = given or _proposal(data, root)
    with coded(out):
        work = Path(tempfile.mkdtemp(prefix=f".tmp-{out.name}-", dir=_parent(out)))
    try:
        written = _cleaned(data, root, chosen, work, emit)
        if out.exists():
            shutil.rmtree(out)
        work.chmod(0o755)
        os.replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return DataCleaned(out, written, tuple(map(_shown, chosen)), proposed=not given)


def data_restore(folder: Path, *, stage: str | None, rows: Sequence[str], emit: Emit) -> DataCleaned:
    """Take decisions of `sartor data clean` back: those of a stage, about some rows, or all. Raises DataError D185, D189."""
    return _ruled(folder, "restore", stage, rows, emit)


def data_accept(folder: Path, *, stage: str, rows: Sequence[str], emit: Emit) -> DataCleaned:
    """Do what a stage suggested, for all rows or for some. Raises DataError D185, D189."""
    return _ruled(folder, "accept", stage, rows, emit)


def _ruled(folder: Path, do: Any, stage: str | None, rows: Sequence[str], emit: Emit) -> DataCleaned:
    settings = open_settings(folder)
    names = [each.name for each in settings.stages]
    if stage is not None and stage not in names:
        near = nearest(stage, names)
        what = f'no stage "{stage}" was run' + (f'; did you mean "{near}"?' if near else "")
        raise DataError(Problem("D185", what, file=str(folder), fix=f"stages: {', '.join(names)}"))
    if rows:
        known = {str(original.row.origin) for original in originals(folder)} & set(rows)
        for row in rows:
            if row not in known:
                fix = "rows are named FILE:LINE, as in dropped.jsonl and changed.jsonl (its file and line)"
                raise DataError(Problem("D185", f'there is no row "{row}"', file=str(folder), fix=fix))
    if do == "accept":
        _require_suggested(folder, stage)
    rules = [Rule(do, stage, row) for row in rows] or [Rule(do, stage)]
    written = apply_rules(folder, rules, lambda done: emit(Progressed("writing", done)))
    return DataCleaned(folder, written, tuple(map(_shown, settings.stages)), proposed=False, verb=f"{do}d")


def _require_suggested(folder: Path, stage: str | None) -> None:
    """Raises DataError D185 where there is nothing that could be accepted."""
    suggesting = dict.fromkeys(entry["stage"] for entry in entries(folder / STATE / RECORDED / SUGGESTED))
    if stage not in suggesting:
        fix = f"suggested by {', '.join(suggesting)}" if suggesting else "nothing needs doing"
        raise DataError(Problem("D185", f"{stage} suggested nothing", file=str(folder), fix=fix))


def _data(targets: Sequence[str]) -> tuple[Data, Path]:
    recipes = [path for path in targets if path.lower().endswith(RECIPES)]
    if not recipes:
        return Data(sources=tuple(Source(path=path) for path in targets), on_bad="skip"), Path.cwd()
    if len(targets) > 1:
        what = "a recipe is cleaned on its own, because its rows go to one folder"
        raise DataError(Problem("D188", what, file=recipes[0], fix="one command for each recipe"))
    from sartor.recipe.load import load

    loaded = load(recipes[0])
    return loaded.recipe.data, loaded.root


def _stages(written: str) -> tuple[Component, ...]:
    """Stages as on the command line. Raises RecipeError as a recipe does."""
    from sartor.recipe.load import parse

    pieces = re.findall(r"[^,\[\]{}]*(?:(?:\[[^\]]*\]|\{(?:[^{}]|\{[^{}]*\})*\})[^,\[\]{}]*)*", written)
    named = []
    for piece in filter(str.strip, pieces):
        name, equals, value = piece.partition("=")
        named.append(f"{{{name.strip()}: {value}}}" if equals else name.strip())
    text = f"data: {{clean: [{', '.join(named)}], sources: [rows.jsonl]}}\nbase: sartor/nano\n"
    return parse(text, "--stages").recipe.data.clean


def _proposal(data: Data, root: Path) -> tuple[Component, ...]:
    """Stages that do good to such rows and hardly any harm."""
    sample = [row for row, _ in islice(Reader(data, root, lambda event: None).rows(), LOOKED_AT)]
    from sartor import registry

    html = registry.component("stage", "html")
    strip = html.cleaner(html.Options())
    marked = sum(strip(row) is not row for row in sample) * 50 > len(sample)
    labelled = any(isinstance(row, Example) and row.label is not None for row in sample)
    named = ["unicode", *["html"] * marked, "whitespace", *["labels"] * labelled, "duplicates=0.9"]
    return _stages(",".join(named))


def _cleaned(data: Data, root: Path, stages: tuple[Component, ...], work: Path, emit: Emit) -> Written:
    reader = Reader(data, root, emit)
    forms: dict[str, Form] = {}

    def noted() -> Iterator[Placed]:
        with recorder(work) as note:
            for original, role in _with_records(reader, data, forms):
                note(original)
                yield original.row, role

    recorded = work / STATE / RECORDED
    dataset, _, steps = spool(noted(), stages, work / STATE / "spool", emit)
    if data.on_bad == "skip":
        reader.findings.forgive()
    raise_errors(DataError, reader.findings.fatal)
    raise_errors(DataError, reader.findings.errors)
    for name in FILES:
        if (work / STATE / "spool" / name).exists():
            os.replace(work / STATE / "spool" / name, recorded / name)
    unread = [
        {"row": str(origin), "file": origin.file, "line": origin.line, "rule": rule, "reason": reason}
        for origin, rule, reason in reader.findings.dropped
    ]
    total = sum(step.rows for step in steps[:1])
    written = write_first(
        work, Settings(stages, forms), dataset, steps, unread, lambda done: emit(Progressed("writing", done, total))
    )
    shutil.rmtree(work / STATE / "spool")
    return written


def _with_records(reader: Reader, data: Data, forms: dict[str, Form]) -> Iterator[tuple[Original, int]]:
    """Each row with the record it was made of and its role; `forms` is told how each file is written."""
    file = ""
    found: Iterator[Record | Problem] = iter(())
    for row, role in reader.rows():
        if row.origin.file != file:
            file = row.origin.file
            source = data.sources[reader.sources[file]]
            forms[file] = Form(reader.findings.formats[file], dict(source.map))
            limit = int(data.max_line_mb * (1 << 20))
            found = records(reader.files[file], format=source.format, max_line_bytes=limit)
        yield Original(row, _record_at(found, row)), role


def _record_at(found: Iterator[Record | Problem], row: Row) -> Mapping[str, Any]:
    return next(item.value for item in found if isinstance(item, Record) and item.line == row.origin.line)


def _require_different(data: Data, root: Path) -> None:
    """Rows are told apart by their file and line."""
    seen = set()
    for source in data.sources:
        for file in expand(source.path, root):
            if file.resolve() in seen:
                what = "this file is named twice, so its rows could not be told apart"
                raise DataError(Problem("D186", what, file=source.path, fix="name it once"))
            seen.add(file.resolve())


def _require_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / STATE).is_dir())):
        what = "this holds something else than cleaned data"
        raise DataError(Problem("D187", what, file=str(out), fix="give --out a folder that is not there yet"))


def _parent(out: Path) -> Path:
    make_folder(out.absolute().parent)
    return out.absolute().parent


def _shown(stage: Component) -> str:
    """The stage as one would write it."""
    given = stage.options.model_dump(exclude_unset=True, mode="json")
    if not given:
        return stage.name
    return f"{{{stage.name}: {_flow(given)}}}"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) and not value.replace("_", "a").isalnum() else str(value)


def _reasons(step: Step) -> str:
    """The most frequent reasons."""
    counted = sorted((step.reasons | step.remarks).items(), key=lambda entry: -entry[1])
    told = [f"{reason} ({count:,})" for reason, count in counted[:REASONS]]
    return "; ".join(told) + (f"; {len(counted) - REASONS} more" if len(counted) > REASONS else "")


def _difference(old: str, new: str, *, plain: bool) -> Text:
    """Where two texts differ: what goes in red, what comes in green; in brackets where there are no colours."""
    from rich.text import Text

    from sartor.console import printable

    one, other = PIECE.findall(old), PIECE.findall(new)
    shown = Text("   ")
    for tag, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if len(shown) > LONGEST:
            return shown.append(" ...", "dim")
        if tag == "equal":
            same = printable("".join(one[a:b]))
            shown.append(same if len(same) <= AROUND else f"{same[: AROUND // 2]} ... {same[-AROUND // 2 :]}", "dim")
            continue
        for pieces, style, marks in ((one[a:b], "red strike", "[-{}-]"), (other[c:d], "green", "{{+{}+}}")):
            text = printable("".join(pieces))[: 4 * AROUND].replace("\n", "\N{RETURN SYMBOL}\n")
            if text:
                shown.append(marks.format(text) if plain else text, style)
    return shown
