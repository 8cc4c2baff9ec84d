"""The whole path on what ships with Sartor: embedded model, embedded data, no network."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor import embedded
from sartor.console import duration, printable
from sartor.errors import Problem, RunError
from sartor.events import Event
from sartor.flow.run import Ran, run
from sartor.store import atomic

if TYPE_CHECKING:
    from rich.console import Console

RECIPE = """\
# Messages to a shop in, the record its support desk wants out: strict JSON with the shop's own codes.
# Everything not written here has a default with a reason:  sartor check recipe.yaml
goal:
  task: generate
  statement: Turn a customer's message into the triage record, strict JSON, no chatter
  success:                      # decided before training; the exit code says whether they were met
    - {metric: json_valid, at_least: 0.9}
    - {metric: field_f1, better_than: base}
    - {metric: field_f1, better_than: few_shot}
base: sartor/nano               # 6.5 million parameters, part of the package
data:
  sources:
    - {path: tickets.jsonl, id: id}
  split: {train: 0.75, validation: 0.1, test: 0.15}
method: full                    # a model this small is tuned whole; lora suits larger ones
train:
  epochs: 7
  batch: {examples: 16}
  threads: 1                    # steps this small are not worth sharing between cores
  optimizer: {adamw: {learning_rate: 0.002}}
evaluate:
  metrics: [field_f1, json_valid, exact_match, perplexity]
"""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo made."""

    recipe: Path
    ran: Ran
    seconds: float

    @property
    def exit_code(self) -> int:
        """That of the run."""
        return self.ran.exit_code

    def json(self) -> dict[str, Any]:
        """The run's JSON object with the recipe."""
        return {"recipe": str(self.recipe), "seconds": self.seconds, **self.ran.json()}

    def render(self, console: Console) -> None:
        """The table, the report, and what to type next."""
        self.ran.render(console)
        console.print(f" {duration(self.seconds)} in all, on data and a model that ship with Sartor")
        folder = self.ran.folder
        for does, command in (
            ("talk to both models", f"sartor chat {folder}"),
            ("see the recipe", f"cat {self.recipe}"),
            ("begin with your own data", "sartor init --data FILE"),
        ):
            console.print(printable(f" {does:<26}{command}"), soft_wrap=True)


def demo(out: Path, emit: Callable[[Event], None]) -> Demo:
    """Write recipe and data into `out` and run them into `out`/run. Again, it resumes or shows what was found.

    Raises RunError F143 when the files there are not the demo's, and whatever `flow.run.run` raises.
    """
    began = time.monotonic()
    embedded.nano()
    recipe, data = out / "recipe.yaml", out / "tickets.jsonl"
    _refuse_changed(recipe, RECIPE.encode())
    _refuse_changed(data, embedded.demo_data().read_bytes())
    atomic.write_text(recipe, RECIPE)
    if not data.exists():
        shutil.copyfile(embedded.demo_data(), data)
    ran = run(recipe, out / "run", (), (), emit)
    return Demo(recipe, ran, time.monotonic() - began)


def _refuse_changed(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() != content:
        what = "this file is not the demo's any more; the demo would overwrite it"
        fix = f"run your own with  sartor run {path.parent / 'recipe.yaml'}  , or give another folder: sartor demo --out DIR"
        raise RunError(Problem("F143", what, file=str(path), fix=fix))
