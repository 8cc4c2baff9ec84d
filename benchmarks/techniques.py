"""All methods, and all objectives on pairs, side by side on one budget: quality with its interval, what moves, memory, seconds.

    python benchmarks/techniques.py [--data DIR] [--jobs tickets,labels,...] [--methods full,lora,...] [--steps N] [--rows N]
                                    [--base sartor/nano] [--threads N] [--rates 1,3,10] [--json]

Every line is a `sartor run` in a process of its own with all else by default; what a method cannot do is said instead of a number.
With --rates every method runs with these multiples of the learning rate that it would choose. Without --data only the embedded tickets are there. DIR holds banking77/, snips_json/, stsb/ and hh_harmless/ with train.jsonl and
test.jsonl each (stsb: en_train.jsonl, en_test.jsonl).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from sartor import registry

TEST_ROWS = 200


@dataclass(frozen=True)
class Job:
    """What is learnt, and the figure it is judged by."""

    metric: str
    train: str
    """File below DIR; a builtin where DIR is not needed."""
    test: str = ""
    map: dict[str, str] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    """Sections to add."""
    objectives: tuple[str, ...] = ()
    """Compared with each other with LoRA, in place of methods."""


JOBS = {
    "tickets": Job("perplexity", "builtin:demo"),
    "labels": Job("accuracy", "banking77/mini10_train.jsonl", "banking77/mini10_test.jsonl"),
    "classes": Job(
        "accuracy", "banking77/mini10_train.jsonl", "banking77/mini10_test.jsonl",
        recipe={"goal": {"task": "classify"}, "train": {"objective": "classify"}},
    ),
    "json": Job(
        "field_f1", "snips_json/train.jsonl", "snips_json/test.jsonl", map={"prompt": "text", "completion": "json"}
    ),
    "numbers": Job(
        "pearson", "stsb/en_train.jsonl", "stsb/en_test.jsonl", map={"sentence1": "a", "sentence2": "b", "score": "score"},
        recipe={"goal": {"task": "regress"}},
    ),
    "pairs": Job(
        "preference_accuracy", "hh_harmless/train.jsonl", "hh_harmless/test.jsonl",
        objectives=("dpo", "ipo", "orpo", "simpo", "reward"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One run."""

    job: str
    what: str
    """The method or the objective."""
    metric: str
    rate: float | None = None
    """Learning rate, where --rates was given."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    base: float | None = None
    trainable: int | None = None
    memory_bytes: int | None = None
    seconds: float | None = None
    refused: str = ""


def recipe(job: Job, what: str, rate: float | None, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The recipe of one line; the training rows are N of the file, always the same ones."""
    train, sources = job.train, []
    if not train.startswith("builtin:"):
        lines = (options.data / train).read_text(encoding="utf-8").splitlines(keepends=True)
        random.Random(0).shuffle(lines)
        rows = folder / "train.jsonl"
        rows.write_text("".join(lines[: options.rows]), encoding="utf-8")
        sources = [{"path": str(rows)}, {"path": str((options.data / job.test).resolve()), "role": "test"}]
        for source in sources:
            source |= {"map": dict(job.map)} if job.map else {}
    data: dict[str, Any] = {"sources": sources or [train]}
    if sources:
        data |= {"split": {"train": 0.9, "validation": 0.1, "test": 0.0}, "on_leak": "drop", "on_bad": "skip"}
        data |= {"too_long": "cut_prompt"} if job.objectives else {}
    extra = job.recipe.get("train", {})
    objective = {"objective": what} if job.objectives else {}
    paced = {} if rate is None else {"optimizer": {"adamw": {"learning_rate": rate}}}
    return {
        "base": options.base,
        "data": data,
        "method": "lora" if job.objectives else what,
        "train": {"steps": options.steps, "threads": options.threads, **extra, **objective, **paced},
        "evaluate": {"metrics": [job.metric], "against": ["base"], "rows": TEST_ROWS, "resamples": 1000},
        **{key: value for key, value in job.recipe.items() if key != "train"},
    }


def usual_rate(name: str, what: str, options: argparse.Namespace) -> float:
    """The learning rate that this job would choose."""
    with tempfile.TemporaryDirectory(prefix="sartor-techniques-") as scratch:
        path = Path(scratch) / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe(JOBS[name], what, None, options, Path(scratch))), encoding="utf-8")
        command = [sys.executable, "-m", "sartor", "check", str(path), "--json"]
        checked = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return float(checked["settings"]["train.optimizer.adamw.learning_rate"]["value"])


def measure(name: str, what: str, times: float | None, options: argparse.Namespace) -> Line:
    """Run one line to its verdict."""
    job = JOBS[name]
    with tempfile.TemporaryDirectory(prefix="sartor-techniques-") as scratch:
        folder = Path(scratch)
        path, out = folder / "recipe.yaml", folder / "out"
        rate = None if times is None else usual_rate(name, what, options) * times
        path.write_text(yaml.safe_dump(recipe(job, what, rate, options, folder)), encoding="utf-8")
        command = [sys.executable, "-m", "sartor", "run", str(path), "--out", str(out), "--json"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode not in (0, 1):
            return Line(name, what, job.metric, rate, refused=_said(ended))
        verdict = json.loads(ended.stdout)
        events = [json.loads(line) for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines()]
        trainable = next(event["trainable"] for event in events if event["event"] == "started")
        comparison = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    scores = next(metric["scores"] for metric in comparison["metrics"] if metric["name"] == job.metric)
    score, base = scores["tuned"], scores.get("base") or {}
    train = verdict["train"]
    return Line(
        name, what, job.metric, rate, score["value"], score["low"], score["high"], base.get("value"), trainable,
        train["peak_memory_bytes"], train["seconds"],
    )  # fmt: skip


def _said(ended: subprocess.CompletedProcess[str]) -> str:
    """The first error of a command."""
    lines = [line.strip() for line in ended.stderr.splitlines() if "error" in line]
    return (lines or ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[0]


def lines(options: argparse.Namespace) -> Iterator[tuple[str, str, float | None]]:
    """Every job with every method or objective that was asked for, at each rate."""
    for name in options.jobs:
        for what in JOBS[name].objectives or options.methods:
            for times in options.rates or (None,):
                yield name, what, times


def table(found: list[Line]) -> Table:
    """The lines for people."""
    shown = Table(
        "job", "method or objective", "rate", "metric", "tuned (95 %)", "base", "trainable", "peak", "training"
    )
    for line in found:
        rate = "own" if line.rate is None else f"{line.rate:.1e}"
        if line.refused:
            shown.add_row(line.job, line.what, rate, line.metric, f"refused: {line.refused}"[:90])
            continue
        base = "" if line.base is None else f"{line.base:.3f}"
        shown.add_row(
            line.job, line.what, rate, line.metric, f"{line.value:.3f} [{line.low:.3f}, {line.high:.3f}]", base,
            f"{line.trainable:,}", f"{(line.memory_bytes or 0) / 2**20:,.0f} MiB", f"{line.seconds:.0f} s",
        )  # fmt: skip
    return shown


def main() -> None:
    """Run every line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--jobs", type=lambda text: text.split(","))
    parser.add_argument("--methods", type=lambda text: text.split(","), default=registry.names("method"))
    parser.add_argument("--rates", type=lambda text: [float(part) for part in text.split(",")])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=1000, help="training rows read of a file (1,000)")
    parser.add_argument("--base", default="sartor/nano")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    options.jobs = options.jobs or [name for name, job in JOBS.items() if options.data or not job.test]
    found: list[Line] = []
    console = Console(stderr=options.json)
    for name, what, times in lines(options):
        found.append(measure(name, what, times, options))
        at = "" if times is None else f" at {found[-1].rate:.1e}"
        console.print(f"{name} {what}{at}: {found[-1].refused or found[-1].value}", highlight=False)
    if options.json:
        print(
            json.dumps(
                {"steps": options.steps, "base": options.base, "lines": [vars(line) for line in found]}, indent=1
            )
        )
    else:
        console.print(table(found))


if __name__ == "__main__":
    main()
