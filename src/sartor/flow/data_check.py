"""Reads and audits data files, or the data of a recipe, and says what was found. Writes nothing but the report asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data.ledger import Step
from sartor.data.making import Means
from sartor.data.pipeline import Audit, augmented, by_shares, examine, not_at_all
from sartor.data.profile import Profile, profile
from sartor.data.rows import IMAGE, MARK
from sartor.data.split import PARTS
from sartor.data.wording import answered, asked
from sartor.errors import Problem, RecipeError
from sartor.events import Event
from sartor.flow.data_profile import render_profile
from sartor.flow.data_report import Part, part
from sartor.flow.prepare import renderer_for
from sartor.models.catalog import resolve
from sartor.recipe.schema import Data, Source
from sartor.tokens.render import Renderer, has_reasoning

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.recipe.load import Loaded

RECIPES = (".yaml", ".yml")
SHOWN = 20
WIDTH = 60
CLEANED = "D190"
"""What the table of the stages says."""
DID = ("changed", "dropped", "suggested")
"""What is counted of each stage."""


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
    profiles: tuple[Profile, ...]
    """What the rows of each audit are like."""
    cleaned: tuple[Step, ...] = ()
    """What each stage of the recipes' `data.clean` did."""
    page: Path | None = None
    """The report, where one was asked for."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The findings that stop a run."""
        return tuple(problem for problem in self.findings if problem.level == "error")

    @property
    def exit_code(self) -> int:
        """2 where a run would be refused."""
        return 2 if self.errors else 0

    def json(self) -> dict[str, Any]:
        """``{"files": [...], "findings": [...], "splits": [...], "profile": {...}, "cleaned": [...], "report"}``; a list of profiles for several."""
        profiles = [profile.json() for profile in self.profiles]
        return {
            "files": list(self.files),
            "findings": [problem.json() for problem in self.findings],
            "splits": list(self.splits),
            "profile": profiles[0] if len(profiles) == 1 else profiles,
            "cleaned": [
                {"stage": step.stage, "rows": step.rows, **{name: getattr(step, name) for name in DID}}
                for step in self.cleaned
            ],
            "report": str(self.page) if self.page else None,
        }

    def render(self, console: Console) -> None:
        """Print files, parts and warnings; the errors are raised by the command."""
        from sartor.console import printable, table

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
        if self.cleaned:
            rows = [
                (f" clean.{step.stage}", *(f"{getattr(step, name):,}" for name in ("rows", *DID)))
                for step in self.cleaned
            ]
            table(console, (" cleaning", "rows in", "changed", "left out", "suggested"), rows)
        for split, likeness in zip(self.splits, self.likeness, strict=True):
            console.print(f" split  {_parts(split)}", soft_wrap=True)
            console.print(f" leak   {likeness}", soft_wrap=True)
            for line in _against(split):
                console.print(f"        {line}", soft_wrap=True)
        for told in self.profiles:
            render_profile(console, told)
        others = [problem for problem in self.findings if problem.level != "error" and problem.code != CLEANED]
        for problem in others[:SHOWN]:
            style = "yellow" if problem.level == "warning" else "cyan"
            console.print(f" {printable(str(problem))}", style=style, soft_wrap=True)
        if len(others) > SHOWN:
            console.print(f" ... and {len(others) - SHOWN} more; --json lists them all")
        records = sum(file["records"] for file in self.files)
        counts = (len(self.errors), sum(problem.level == "warning" for problem in others))
        if self.page is not None:
            console.print(f" report  {printable(str(self.page))}", soft_wrap=True)
        console.print(f" {_plural(counts[0], 'error')}, {_plural(counts[1], 'warning')} in {records:,} records")


def data_check(
    paths: Sequence[str],
    emit: Callable[[Event], None],
    *,
    against: Sequence[str] = (),
    html: Path | None = None,
    difficulty: bool = False,
) -> DataChecked:
    """Audit the recipes' data, each as its recipe divides it, and all plain files together.

    Args:
        paths: recipes and data files.
        emit: told of the progress.
        against: files of questions to look for in the rows, beside those of a recipe's `data.against`.
        html: write a report in one HTML file there.
        difficulty: also measure with each recipe's base model how much prompts help it to the answers.

    Raises RecipeError for a recipe that does not hold, ModelError where its model is needed and cannot be read; whatever is
    wrong with the data is among the findings.
    """
    audits: list[_Told] = []
    files = [path for path in paths if not path.lower().endswith(RECIPES)]
    if difficulty and files:
        fix = "sartor data check RECIPE --difficulty"
        raise RecipeError(Problem("R151", "difficulty is measured with the base model of a recipe", files[0], fix=fix))
    if files:
        data = Data(sources=tuple(Source(path=path) for path in files), against=tuple(against))
        with _spool() as folder:
            audit = examine(data, root=Path.cwd(), folder=folder, emit=emit, divide=not_at_all)
            audits.append(_told(audit, None, None))
    for path in paths:
        if path not in files:
            from sartor.recipe.load import load

            loaded = load(path)
            given = loaded.recipe.data
            data = given.model_copy(
                update={"against": (*given.against, *(os.path.relpath(file, loaded.root) for file in against))}
            )
            with _spool() as folder:
                audit = examine(data, root=loaded.root, folder=folder, emit=emit, divide=by_shares)
                if audit.splits is not None and not audit.findings.errors:
                    # What augmentation and weighing come to is among the findings; the rows shown are those that were read.
                    means = Means(loaded.recipe.seed)
                    augmented(audit, audit.splits, data, loaded.root, folder, means, emit)
                renderer = _renderer(loaded, audit) if (html is not None or difficulty) and len(audit.dataset) else None
                measured = None
                if difficulty and renderer is not None and audit.splits is not None:
                    from sartor.flow.difficulty import measure

                    measured = measure(loaded, audit.dataset, audit.splits, renderer, emit)
                audits.append(_told(audit, renderer, measured))
    result = DataChecked(
        files=tuple(file for audit in audits for file in audit.files),
        samples=tuple(sample for audit in audits for sample in audit.samples),
        findings=tuple(problem for audit in audits for problem in audit.part.findings),
        splits=tuple(audit.split for audit in audits if audit.split is not None),
        likeness=tuple(audit.likeness for audit in audits if audit.likeness is not None),
        cleaned=tuple(step for audit in audits for step in audit.cleaned),
        profiles=tuple(audit.part.profile for audit in audits if audit.part.profile is not None),
        page=html,
    )
    if html is not None:
        from sartor.flow.data_report import report
        from sartor.store.atomic import write_text

        write_text(html, report([audit.part for audit in audits]))
    return result


@contextmanager
def _spool() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sartor-") as folder:
        yield Path(folder)


def _renderer(loaded: Loaded, audit: Audit) -> Renderer:
    """What the recipe's model makes of its rows."""
    recipe = loaded.recipe
    return renderer_for(
        resolve(recipe.base.model, loaded.root, revision=recipe.base.revision),
        template=loaded.root / recipe.base.template if recipe.base.template else None,
        add_tokens=recipe.base.add_tokens,
        loss_on=recipe.data.loss_on,
        reasoning=recipe.data.reasoning,
        thinks=recipe.data.reasoning != "none" and any(map(has_reasoning, audit.dataset)),
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """An audit without its data set, which lies in a folder that goes away."""

    files: tuple[dict[str, Any], ...]
    samples: tuple[tuple[str, str], ...]
    split: dict[str, Any] | None
    likeness: str | None
    cleaned: tuple[Step, ...]
    part: Part


def _told(audit: Audit, renderer: Renderer | None, measured: Mapping[str, Any] | None) -> _Told:
    body = audit.findings.json()
    first = {found.sample.origin.file: found.sample for found in audit.recognised}
    nothing = ("", "")
    samples = tuple(
        (_line(asked(first[path])), _line(answered(first[path]))) if path in first else nothing
        for path in (file["path"] for file in body["files"])
    )
    splits = audit.splits
    told = splits is not None and (splits.divided or splits.against is not None)
    made = None
    if splits is not None:
        made = replace(profile(audit.dataset, splits), difficulty=measured)
    files = tuple(body["files"])
    return _Told(
        files=files,
        samples=samples,
        split=splits.json() if splits is not None and told else None,
        likeness=str(splits.residual or "nothing to compare") if splits is not None and told else None,
        cleaned=tuple(audit.cleaned),
        part=part(audit.dataset, splits, tuple(audit.findings.problems), files, made, renderer),
    )


def _line(text: str) -> str:
    text = " ".join(MARK.sub(f"{IMAGE} ", text).split())
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def _against(split: dict[str, Any]) -> Iterator[str]:
    """What comparing with benchmarks has found."""
    if "against" not in split:
        return
    told = split["against"]
    items = ", ".join(f"{path} ({_plural(count, 'item')})" for path, count in told["files"].items())
    rows = told["rows"]
    found = (
        f"{rows['same']:,} rows the same, {rows['near']:,} nearly, {rows['n-gram']:,} by n-grams of {told['n']} words"
    )
    yield f"against {items}: {found}"
    if told["residual"]:
        left = "after these were left out" if told["dropped"] else "of the other rows"
        yield f"likeness {left}: median {told['residual']['median']:.2f}, highest {told['residual']['max']:.2f}"


def _parts(split: dict[str, Any]) -> str:
    counts = "   ".join(f"{name} {split['rows'][name]:,}" for name in PARTS)
    left_out = f"   left out {split['left_out']:,}" if split["left_out"] else ""
    clusters = split["clusters"]
    return f"{counts}{left_out}   {clusters['count']:,} clusters, the largest of {_plural(clusters['largest'], 'row')}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
