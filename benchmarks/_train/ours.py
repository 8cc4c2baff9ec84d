"""Sartor as a contender, and the work everyone is given.

python -m _train.ours FOLDER sartor ...     train, through the functions that `sartor run` calls
python -m _train.prepare FOLDER ...         makes FOLDER
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from _train.watch import Watch, main
from _train.work import Work
from sartor.advise.hardware import survey
from sartor.advise.settings import Settings, choose_objective, decide
from sartor.events import Event, Noted, Started, Stepped
from sartor.flow.train import attach, open_base
from sartor.flow.train import train as run_training
from sartor.models.catalog import ModelFolder, resolve
from sartor.recipe.auto import Resolution
from sartor.recipe.load import Loaded, load
from sartor.tokens.course import PLAIN, Course
from sartor.tokens.store import TokenSet


class Origins:
    """Names rows for messages."""

    def origin(self, row: int) -> str:
        """The row by its number."""
        return f"row {row}"


@dataclass(frozen=True)
class Rows:
    """What training reads of the prepared rows."""

    dataset: Origins


@dataclass(frozen=True)
class Material:
    """What training reads of `sartor.flow.handover.Material`: the rows here are token ids from the start."""

    loaded: Loaded
    base: ModelFolder
    settings: Settings
    tokens: Mapping[str, TokenSet]
    rows: Rows
    course: Course = PLAIN


def material(folder: Path, *overrides: str) -> Material:
    """The work folder as the flow prepares a recipe: every open value decided by the advisor."""
    loaded = load(folder / "recipe.yaml", overrides)
    base = resolve(loaded.recipe.base.model, loaded.root)
    tokens = {part: TokenSet.open(folder / "tokens" / part) for part in ("train", "validation")}
    resolution = Resolution(loaded)
    settings = decide(
        loaded.recipe,
        resolution,
        task="generate",
        objective=choose_objective(loaded.recipe, resolution, "generate"),
        base=base,
        lengths=tokens["train"].lengths,
        validation_rows=0,
        hardware=survey(),
        scored=tokens["train"].supervised / tokens["train"].tokens,
    )
    return Material(loaded, base, settings, tokens, Rows(Origins()))


def train(work: Work, watch: Watch, contender: str, exact: bool) -> None:
    """One training stage as a run does it, without validation."""
    ready = material(work.folder, *(("base.dtype=float32", "train.steps=1") if exact else ()))
    settings = ready.settings
    watch.settings = {
        "dtype": settings.dtype,
        "micro_tokens": settings.micro_tokens,
        "compile": settings.compile,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "notes": [],
    }

    def hear(event: Event) -> None:
        if isinstance(event, Noted):
            watch.settings["notes"].append(f"{event.code}: {event.message}")
        elif isinstance(event, Started):
            watch.settings["trainable"] = event.trainable
        elif isinstance(event, Stepped):
            watch.losses.append(event.loss)
            watch.stepped()

    policy = open_base(ready, hear)
    attach(ready, policy)
    with tempfile.TemporaryDirectory(dir=work.folder) as scratch:
        run_training(ready, policy, Path(scratch), hear, tools=None, owner="", stop_asked=lambda: False)


if __name__ == "__main__":
    main(train)
