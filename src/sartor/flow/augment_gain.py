"""Whether made rows help: the same recipe trained with and without them, and the loss of every validation row compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.columns import read_columns, write_columns
from sartor.data.pipeline import Prepared as Rows
from sartor.errors import DataError, Problem
from sartor.events import Event, Stage
from sartor.flow.heads import require_words
from sartor.flow.job import claim
from sartor.flow.measure import Bench, bench
from sartor.flow.prepare import Prepared, prepare
from sartor.flow.signals import Stop
from sartor.protocols import Models
from sartor.recipe.load import Loaded

if TYPE_CHECKING:
    from rich.console import Console

Emit = Callable[[Event], None]
LEAST = 10
"""Validation rows below which nothing is said."""


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean loss per answer token on the validation rows; lower is better."""

    rows: int
    seeds: int
    steps: int
    without: float
    with_: float
    difference: float
    """With minus without."""
    low: float
    high: float
    confidence: float

    @property
    def word(self) -> str:
        """helped, harmed or not decided: on which side of zero the whole interval lies."""
        if self.high < 0:
            return "helped"
        return "harmed" if self.low > 0 else "not decided"

    def json(self) -> dict[str, Any]:
        """Everything as one object."""
        names = ("rows", "seeds", "steps", "without", "difference", "low", "high", "confidence", "word")
        return {name: getattr(self, name) for name in names} | {"with": self.with_}

    def render(self, console: Console) -> None:
        """The losses and the word."""
        seeds = f", mean of {self.seeds} seeds" if self.seeds > 1 else ""
        console.print(
            f" loss on {self.rows:,} validation rows after at most {self.steps:,} steps each{seeds}:   "
            f"without {self.without:.4f}   with {self.with_:.4f}",
            soft_wrap=True,
        )
        what = {
            "helped": "the made rows helped",
            "harmed": "the made rows did not help, they harmed",
            "not decided": "not decided: the difference may be chance; more validation rows or --seeds tell more",
        }[self.word]
        told = f"difference {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}] at {100 * self.confidence:g} %"
        console.print(f" {what}   {told}", style="bold", soft_wrap=True)


def gain(made: Loaded, plain: Loaded, out: Path, models: Models, emit: Emit, *, seeds: int) -> tuple[Gain, Rows]:
    """Train `plain` and `made` with the settings of `plain`, for as many steps each, and compare them row by row.

    Each pair shares its seed: the same first weights. Both keep the step that was best on the validation rows, on which they
    are then compared, so either loss is a little better than on new rows; the difference is fair. Raises DataError D116 for
    too few validation rows.
    """
    job = {"recipe": made.recipe.model_dump(mode="json")}
    claim(out, job)
    prepared = {
        "without": prepare(plain, _folder(out / "plain"), emit),
        "with": prepare(made, _folder(out / "data"), emit, models=models),
    }
    require_words(prepared["without"], "sartor data augment --measure")
    rows = len(prepared["without"].tokens["validation"])
    if rows < LEAST:
        what = f"{rows} validation rows are too few to see a difference on; {LEAST} are the least"
        raise DataError(Problem("D116", what, file=made.recipe.data.sources[0].path, fix="data.split.validation: 0.2"))
    settings = prepared["without"].settings
    tools = bench(prepared["without"], emit)
    losses: dict[str, list[NDArray[np.float64]]] = {name: [] for name in prepared}
    with Stop() as stop:
        for seed in range(seeds):
            for name, part in prepared.items():
                recipe = part.loaded.recipe.model_copy(update={"seed": part.loaded.recipe.seed + seed})
                material = replace(part, settings=settings, loaded=replace(part.loaded, recipe=recipe))
                losses[name].append(_losses(material, tools, out / f"{name}-seed-{seed}", name, emit, stop))
    means = {name: np.mean(each, axis=0) for name, each in losses.items()}
    found = _compared(means["without"], means["with"], settings.steps, seeds, made)
    return found, prepared["with"].rows


def _folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _losses(prepared: Prepared, tools: Bench, folder: Path, name: str, emit: Emit, stop: Stop) -> NDArray[np.float64]:
    """[validation rows] mean -log p per answer token after training; read where it is there already."""
    from sartor.evaluate.likelihood import likelihood
    from sartor.flow.train import attach, open_base, train
    from sartor.store import atomic

    file = folder / "losses.columns"
    if not file.exists():
        emit(
            Stage(
                "train", f"{name} made rows, {len(prepared.tokens['train']):,} rows, {prepared.settings.steps:,} steps"
            )
        )
        policy = open_base(prepared, _unseen)
        attach(prepared, policy)
        stop.training = True
        train(prepared, policy, folder, emit, tools=tools, owner=f"{name} made rows", stop_asked=stop.asked)
        stop.training = False
        held = prepared.tokens["validation"]
        nll, scored = likelihood(policy, [held[index] for index in range(len(held))])
        temporary = file.with_name(f".tmp-{file.name}")
        write_columns(temporary, {"loss": nll / np.maximum(scored, 1)}, {})
        temporary.replace(file)
        atomic.remove(folder / "checkpoints")
    columns, _ = read_columns(file)
    return columns["loss"]


def _unseen(event: Event) -> None:
    """What opening the model tells is the same for every part."""


def _compared(without: NDArray[np.float64], with_: NDArray[np.float64], steps: int, seeds: int, made: Loaded) -> Gain:
    """The paired difference of the means with its bootstrap interval."""
    from sartor.evaluate import intervals

    evaluate = made.recipe.evaluate
    each, count = with_ - without, len(without)
    drawn = intervals.weights(count, evaluate.resamples, made.recipe.seed)
    resampled = np.concatenate([chunk @ each / count for chunk in drawn])
    value = float(each.mean())
    jackknife = (each.sum() - each) / (count - 1)
    low, high = intervals.bca(resampled, value, jackknife, evaluate.confidence)
    return Gain(count, seeds, steps, float(without.mean()), float(with_.mean()), value, low, high, evaluate.confidence)
