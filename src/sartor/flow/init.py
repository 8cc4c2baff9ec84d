"""Looks at the user's data and writes a short commented recipe for it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from sartor import registry
from sartor.data.findings import Findings
from sartor.data.pipeline import TASKS
from sartor.data.reading import expand, read, recognise
from sartor.data.rows import Example, Row
from sartor.errors import DataError, Problem, RecipeError
from sartor.recipe.load import parse

if TYPE_CHECKING:
    from rich.console import Console

LOOKED_AT = 5_000
"""Rows read to get to know the data; the rest is read by `sartor check`."""
NAME = "recipe.yaml"
DEFAULT_BASE = "sartor/nano"
GATES = {
    "classify": "{metric: accuracy, better_than: base}",
    "regress": "{metric: rmse, better_than: base}",
    "tag": "{metric: tag_f1, better_than: base}",
    "prefer": "{metric: preference_accuracy, better_than: base}",
    "judged": "{metric: preference_margin_per_token, better_than: base}",
    "json": "{metric: json_valid, at_least: 0.95}",
    "other": "{metric: perplexity, better_than: base}",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the data looks like. Lengths are in words of prompt and answer together."""

    data: str
    columns: Mapping[str, str]
    files: tuple[str, ...]
    format: str
    kind: str
    rows: int
    complete: bool
    """False where there are more rows than were looked at."""
    bad: tuple[Problem, ...]
    median_words: int
    longest_words: int
    labels: tuple[str, ...]
    turns: int
    """Most assistant turns in one row."""
    json_answers: bool
    prompt: str
    answer: str

    @property
    def task(self) -> str:
        """The task these rows speak for."""
        if self.kind in TASKS:
            return TASKS[self.kind]
        if self.labels:
            return "classify"
        return "chat" if self.turns > 1 else "generate"

    def render(self, console: Console) -> None:
        """Print a few lines."""
        from sartor.console import printable

        count = f"{self.rows:,}" if self.complete else f"more than {self.rows:,}"
        facts = [f"{count} rows", self.format, f"median {self.median_words} words, longest {self.longest_words:,}"]
        if self.labels:
            facts.append(f"{len(self.labels)} labels")
        console.print(f" {printable(self.data)}   {'   '.join(facts)}", soft_wrap=True)
        console.print(f"   first prompt  {_clip(self.prompt)}", style="dim", no_wrap=True, overflow="ellipsis")
        if self.answer:
            console.print(f"   first answer  {_clip(self.answer)}", style="dim", no_wrap=True, overflow="ellipsis")
        for problem in self.bad[:5]:
            console.print(f" {printable(str(problem))}", style="yellow", soft_wrap=True)
        if len(self.bad) > 5:
            console.print(
                f" ... and {len(self.bad) - 5} more: sartor data check {printable(self.data)}", style="yellow"
            )


@dataclass(frozen=True, slots=True)
class Written:
    """The recipe that was written."""

    path: Path
    text: str
    seen: Seen
    task: str
    base: str

    def json(self) -> dict[str, Any]:
        """Path and text of the recipe, and what was seen in the data."""
        seen = {name: getattr(self.seen, name) for name in Seen.__slots__ if name != "bad"}
        seen["findings"] = [problem.json() for problem in self.seen.bad]
        return {"recipe": str(self.path), "task": self.task, "base": self.base, "seen": seen, "text": self.text}

    def render(self, console: Console) -> None:
        """Say where it is and what to type next."""
        console.print(f" wrote {self.path} ({len(self.text.splitlines())} lines)", soft_wrap=True)
        console.print(f" next: sartor check {self.path}      then: sartor run {self.path}", soft_wrap=True)


def candidates(folder: Path) -> list[str]:
    """Files in the folder that may hold rows, sorted."""
    endings = {end for name in registry.names("source") for end in registry.component("source", name).EXTENSIONS}
    endings -= {".md", ".markdown"}
    found = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path.name for path in found if {*path.suffixes} & endings)


def look(data: str, columns: Mapping[str, str]) -> Seen:
    """Read the first rows; `columns` is our field -> the file's column, as in `data.sources.map`.

    Raises DataError where there is no such file, or nothing in it can be understood.
    """
    files = expand(data, Path.cwd())
    labels = [data] if len(files) == 1 else [_label(path) for path in files]
    try:
        recognised = recognise(files[0], map=columns, label=labels[0])
    except DataError as fault:
        raise DataError(*(_with_option(problem) for problem in fault.problems)) from fault
    findings = Findings()
    streams = (
        read(path, map=columns, findings=findings, label=label) for path, label in zip(files, labels, strict=True)
    )
    rows = list(islice(chain.from_iterable(streams), LOOKED_AT + 1))
    if not rows:
        problems = findings.errors or [Problem("D100", "no records", file=labels[0])]
        raise DataError(*problems)
    _trainable(rows[0])
    words = [len(f"{row.prompt_text()} {row.answer_text()}".split()) for row in rows]
    examples = [row for row in rows if isinstance(row, Example)]
    return Seen(
        data=data,
        columns=columns,
        files=tuple(labels),
        format=recognised.format,
        kind=rows[0].kind,
        rows=min(len(rows), LOOKED_AT),
        complete=len(rows) <= LOOKED_AT,
        bad=tuple(findings.errors),
        median_words=int(median(words)),
        longest_words=max(words),
        labels=tuple(sorted({row.label for row in examples if row.label is not None})),
        turns=max((sum(turn.role == "assistant" for turn in row.messages) for row in examples), default=0),
        json_answers=bool(examples) and all(_is_json(row.answer_text()) for row in examples[:50]),
        prompt=rows[0].prompt_text(),
        answer=rows[0].answer_text(),
    )


def _trainable(row: Row) -> None:
    """Raises DataError D173 where no objective learns from rows of this kind by itself."""
    about = {name: registry.component("objective", name).TRAITS for name in registry.names("objective")}
    learning = [name for name, traits in about.items() if row.kind in traits.rows]
    if any(about[name].reads != "prompt" for name in learning):
        return
    what = f"no objective of this version learns from {row.kind} rows; there are {', '.join(about)}"
    fix = "sartor init --data FILE"
    if learning:
        what = "prompts alone say nothing of what a good answer is"
        fix = f"rows with answers; or a recipe with rewards, as train.objective: {{{learning[0]}: {{rewards: [reward.py:score]}}}}"
    raise DataError(Problem("D173", what, file=row.origin.file, line=row.origin.line, fix=fix))


def _label(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _with_option(problem: Problem) -> Problem:
    """The recipe's `map` is an option here."""
    if problem.code != "D112":
        return problem
    return replace(problem, fix=f"{problem.fix}; here: sartor init --map FIELD=COLUMN for each of them")


def init(seen: Seen, folder: Path, *, goal: str | None, task: str | None, base: str) -> Written:
    """Write `recipe.yaml` into the folder. Raises RecipeError where one is there, or a value is of no use."""
    path = folder / NAME
    if path.exists():
        fix = f"sartor check {path}; or give another folder: sartor init DIR"
        raise RecipeError(Problem("R160", "a recipe is here already; it is left as it is", file=str(path), fix=fix))
    task = task or seen.task
    text = recipe_text(seen, folder, goal=goal, task=task, base=base)
    parse(text, "the recipe to be written")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return Written(path, text, seen, task, base)


def recipe_text(seen: Seen, folder: Path, *, goal: str | None, task: str, base: str) -> str:
    """The recipe as YAML with comments; paths are relative to its folder."""
    rows = f"{seen.rows:,}" if seen.complete else f"more than {seen.rows:,}"
    kind = "json" if seen.json_answers and task in ("chat", "generate") else task
    kind = "judged" if seen.kind == "judged" else kind
    gate = GATES.get(kind, GATES["other"])
    fixed = seen.data.startswith("builtin:") or Path(seen.data).is_absolute()
    data = seen.data if fixed else os.path.relpath(seen.data, folder)
    statement = (
        f"  statement: {_quoted(goal)}" if goal else "  # statement: one sentence: what goes in, what must come out"
    )
    lines = [
        f"# Made by sartor init from {_clip(seen.data)}: {rows} rows, {seen.format}.",
        "# What is not said here has a default with a reason; `sartor check` prints them all.",
        "",
        "goal:",
        f"  task: {task:<17} # chat | generate | classify | regress | tag | prefer | pretrain",
        statement,
        "  success:                # decided before training; a gate that fails makes the exit code 1",
        f"    - {gate}",
        f"base: {_quoted(base)}   # or a Hugging Face folder, a hub id, a run folder",
        *_sources(data, seen.columns),
        "# method: auto            # full moves every weight, lora adds a small adapter",
        "# train: {epochs: auto}   # early stopping keeps the best step",
    ]
    return "\n".join(lines) + "\n"


def _sources(data: str, columns: Mapping[str, str]) -> list[str]:
    if not columns:
        return [f"data: {_quoted(data)}"]
    pairs = ", ".join(f"{field}: {_quoted(column)}" for field, column in columns.items())
    return ["data:", "  sources:", f"    - {{path: {_quoted(data)}, map: {{{pairs}}}}}"]


def _quoted(text: str) -> str:
    import yaml

    plain = re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _clip(text: str) -> str:
    from sartor.console import printable

    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= 100 else f"{flat[:99]}…"


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False
