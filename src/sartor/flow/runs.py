"""The history of experiments: which runs there are, and what one of them was given and found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.console import duration, printable, table
from sartor.store.log import unbroken
from sartor.store.run import RunSummary, find, history, summarise

if TYPE_CHECKING:
    from rich.console import Console

ROOT = Path("runs")
"""Where runs are kept unless the user says otherwise."""

FILES = ("report.html", "model_card.md", "verdict.json", "recipe.yaml", "resolved.yaml", "environment.json")


@dataclass(frozen=True, slots=True)
class RunList:
    """All runs below one folder, newest first."""

    root: Path
    runs: tuple[RunSummary, ...]

    def json(self) -> dict[str, Any]:
        """One JSON object with all summaries."""
        return {"root": str(self.root), "runs": [run.json() for run in self.runs]}

    def render(self, console: Console) -> None:
        """A table, one line per run."""
        if not self.runs:
            console.print(f" no runs in {self.root}/ yet   begin one: sartor run recipe.yaml", soft_wrap=True)
            return
        header = ("run", "state", "base", "method", "objective", "verdict", "metric", "tuned", "time")
        table(console, header, [_cells(run) for run in self.runs])


@dataclass(frozen=True, slots=True)
class RunShown:
    """One run in full."""

    summary: RunSummary
    steps: int
    """Optimiser steps taken, those of a broken session counted once."""
    best_step: int | None
    verdict: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None
    notes: tuple[Mapping[str, Any], ...]
    """Warnings and downgrades, in the order they were given."""
    files: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "run": self.summary.json(),
            "steps": self.steps,
            "best_step": self.best_step,
            "verdict": self.verdict,
            "environment": self.environment,
            "notes": [dict(note) for note in self.notes],
            "files": list(self.files),
        }

    def render(self, console: Console) -> None:
        """The facts, the gates, the notes, and where the files are."""
        run = self.summary
        kept = f", kept step {self.best_step:,}" if self.best_step is not None else ""
        said = {
            "run": run.folder,
            "state": run.state,
            "date": run.date,
            "base": run.base or "-",
            "method": run.method or "-",
            "objective": run.objective or "-",
            "training": f"{self.steps:,} steps{kept}",
            "time": duration(run.seconds),
            "verdict": run.verdict or "-",
        }
        for name, value in said.items():
            console.print(f" {name:<10} {printable(value)}")
        if self.verdict and self.verdict.get("gates"):
            console.print()
            header = ("gate", "rule", "value", "low", "high", "passed")
            table(console, header, [_gate(gate) for gate in self.verdict["gates"]])
        for note in self.notes:
            step = f"step {note['step']:,}: " if note.get("step") is not None else ""
            console.print(printable(f" {step}{note.get('level')} {note.get('code')}: {note.get('message')}"))
        for name in self.files:
            console.print(printable(f" {Path(run.folder) / name}"))
        if run.state in ("interrupted", "failed"):
            console.print(" resume it with the command that began it; finished parts are not done again")


def list_runs(root: Path = ROOT) -> RunList:
    """All runs directly below `root`, newest first."""
    return RunList(root, tuple(reversed(history(root))))


def show_run(reference: str, root: Path = ROOT) -> RunShown:
    """One run, by folder, `latest` or the beginning of its name. Raises RunError F104, F105, F106."""
    run = find(reference, root)
    steps, best, notes = 0, None, []
    for event in unbroken(run.events()):
        match event["event"]:
            case "step":
                steps += 1
            case "finished":
                best = event.get("best_step")
            case "note" if event.get("level") != "info":
                notes.append(event)
    return RunShown(
        summary=summarise(run.folder),
        steps=steps,
        best_step=best,
        verdict=run.read_json("verdict.json"),
        environment=run.read_json("environment.json"),
        notes=tuple(notes),
        files=tuple(name for name in FILES if (run.folder / name).exists()),
    )


def _cells(run: RunSummary) -> list[str]:
    texts = [Path(run.folder).name, run.state, run.base, run.method, run.objective, run.verdict, run.metric]
    return [text or "-" for text in texts] + [_number(run.value), duration(run.seconds)]


def _gate(gate: Mapping[str, Any]) -> list[str]:
    numbers = [_number(gate.get(name)) for name in ("value", "low", "high")]
    return [str(gate.get("metric")), str(gate.get("rule")), *numbers, "yes" if gate.get("pass") else "no"]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"
