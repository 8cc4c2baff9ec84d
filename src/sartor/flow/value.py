"""Trains models on parts of the training rows and tells from the losses what each row is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sartor.data.columns import read_columns, write_columns
from sartor.data.wording import answered, asked
from sartor.data.worth import KINDS, Dynamics, folds, ranked, summary
from sartor.errors import Problem, RecipeError
from sartor.events import Event, Finished, Stage
from sartor.flow.heads import require_words
from sartor.flow.job import begun, claim
from sartor.flow.prepare import Prepared, prepare
from sartor.flow.signals import Stop
from sartor.recipe.load import load
from sartor.store import atomic

if TYPE_CHECKING:
    from rich.console import Console

    from sartor.flow.prepare import Emit

ROWS, SUMMARY, LOSSES = "value.jsonl", "value.json", "losses.columns"
LISTED = 12
WIDTH = 64
LEAST = 20
"""Training rows under which nothing can be said."""


@dataclass(frozen=True, slots=True)
class Valued:
    """What the rows are worth. The rows themselves are in the files of `folder`."""

    folder: Path
    rows: int
    folds: int
    epochs: int
    kinds: Mapping[str, int]
    held_out: Sequence[float]
    """Mean loss on rows a model has not seen, before training and after each epoch."""
    top: Sequence[Mapping[str, Any]]
    """The most suspicious rows."""

    def json(self) -> dict[str, Any]:
        """Counts, losses and the most suspicious rows."""
        names = ("rows", "folds", "epochs", "kinds", "held_out", "top")
        return {"folder": str(self.folder), **{name: getattr(self, name) for name in names}}

    def render(self, console: Console) -> None:
        """Counts of each kind, then the rows to look at first."""
        from rich.table import Table

        from sartor.console import printable

        losses = " -> ".join(f"{loss:.3f}" for loss in self.held_out)
        console.print(
            f" {self.rows:,} training rows, each unseen by one of {self.folds} models; their loss on unseen rows {losses}"
        )
        table = Table(box=None, pad_edge=True)
        for name, justify in (("rows", "right"), ("", "left"), ("what that means", "left")):
            table.add_column(name, justify="right" if justify == "right" else "left")
        for name, count in self.kinds.items():
            table.add_row(f"{count:,}", name, KINDS[name], style=None if count else "dim")
        console.print(table)
        if self.top:
            console.print(" look at these first:", style="bold")
        for row in self.top:
            console.print(
                f" {row['suspicion']:5.1f}  {printable(row['row'])}  {printable(row['kind'])}", soft_wrap=True
            )
            console.print(
                f"        {printable(row['prompt'])}  ->  {printable(row['answer'])}", style="dim", soft_wrap=True
            )
        console.print(f" every row: {self.folder / ROWS}", soft_wrap=True)


def value(path: Path, out: Path, overrides: Sequence[str], emit: Emit, *, count: int = 2, epochs: int = 3) -> Valued:
    """Train `count` models, each without one of as many parts of the training rows, and compare losses on rows seen and unseen.

    The same command goes on where it was stopped. Raises InputError for faulty input, Interrupted when stopped.
    """
    loaded = load(path, overrides)
    with begun(out):
        prepared = prepare(loaded, out / "data", emit)
        require_words(prepared, "sartor data value")
    tokens, dataset = prepared.tokens["train"], prepared.rows.dataset
    if len(tokens) < max(LEAST, 2 * count):
        what = f"{len(tokens)} training rows are too few to judge any of them"
        raise RecipeError(Problem("R106", what, file=loaded.recipe.data.sources[0].path, fix=f"{LEAST} rows or more"))
    job = {
        "recipe": loaded.recipe.model_dump(mode="json"),
        "data": dataset.fingerprint,
        "folds": count,
        "epochs": epochs,
    }
    claim(out, job)
    fold = folds(
        prepared.rows.splits.clusters.of[tokens.rows],
        dataset.index.content[tokens.rows, 0],
        tokens.lengths,
        count,
        loaded.recipe.seed,
    )
    with Stop() as stop:
        losses = np.stack([_losses(prepared, out, number, fold, epochs, emit, stop) for number in range(count)])
    mine = fold[None, :] == np.arange(count)[:, None]
    unseen = np.where(mine[:, None], losses, 0).sum(axis=0)
    seen = np.where(mine[:, None], 0, losses).sum(axis=0) / (count - 1)
    return _told(prepared, out, Dynamics(seen, unseen), fold, epochs)


def _losses(
    prepared: Prepared, out: Path, number: int, fold: NDArray[Any], epochs: int, emit: Emit, stop: Stop
) -> NDArray[np.float64]:
    """[epochs + 1, n] the losses on all training rows of a model trained without a fold; read where they are there already."""
    file = out / f"fold-{number}" / LOSSES
    if not file.exists():
        emit(Stage("train", f"model {number + 1} of {int(fold.max()) + 1}, without its part of the rows"))
        _train(prepared, file, np.flatnonzero(fold != number), epochs, emit, stop)
    columns, _ = read_columns(file)
    return np.stack([columns[f"epoch {epoch}"] for epoch in range(epochs + 1)])


def _train(prepared: Prepared, file: Path, chosen: NDArray[np.int64], epochs: int, emit: Emit, stop: Stop) -> None:
    """Train on the chosen rows, and write what all rows lose before and after each epoch. Resumes from its checkpoint."""
    from sartor.engine.loop import fit
    from sartor.engine.precision import Masters
    from sartor.evaluate.likelihood import row_losses
    from sartor.flow.train import attach, objective_of, open_base, plan_of, updater_of
    from sartor.store.checkpoint import Checkpoints
    from sartor.tokens.source import TokenSource
    from sartor.tokens.store import TokenView

    settings, tokens = prepared.settings, prepared.tokens["train"]
    by_label = bool((prepared.rows.dataset.index.label[tokens.rows] >= 0).all())
    policy = open_base(prepared, _unseen)
    attach(prepared, policy)
    weights = Masters(policy.trainable())
    source = TokenSource(
        TokenView(tokens, chosen),
        size=settings.size,
        micro_tokens=settings.micro_tokens if policy.exact.packs else None,
        seed=prepared.loaded.recipe.seed,
        epochs=float(epochs),
        share=policy.exact.shares and not policy.drops,
        course=prepared.course.take(chosen),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    stop.training = True
    each = source.steps_per_epoch

    def validate() -> dict[str, float]:
        epoch = min(source.done // each, epochs)
        loss = row_losses(policy, tokens, range(len(tokens)), whole=by_label)
        write_columns(file.with_name(f"epoch-{epoch}.columns"), {"loss": loss}, {})
        others = np.delete(loss, chosen)
        return {"loss": float(others.mean())}

    checkpoints = Checkpoints(file.parent / "checkpoints", emit, owner=f"without {file.parent.name}")
    for event in fit(
        policy,
        objective_of(prepared),
        source,
        updater_of(prepared, policy, weights),
        plan_of(prepared, validate_every=each, save_every=each),
        validate=validate,
        watchers=[],
        checkpoints=checkpoints,
        stop_asked=stop.asked,
    ):
        if not isinstance(event, Finished):
            emit(event)
    stop.training = False
    columns = {
        f"epoch {epoch}": read_columns(file.with_name(f"epoch-{epoch}.columns"))[0]["loss"]
        for epoch in range(epochs + 1)
    }
    temporary = file.with_name(f".tmp-{file.name}")
    write_columns(temporary, columns, {})
    temporary.replace(file)
    atomic.remove(file.parent / "checkpoints")


def _unseen(event: Event) -> None:
    """What opening the model tells is told once, by the first command that trains on it."""


def _told(prepared: Prepared, out: Path, dynamics: Dynamics, fold: NDArray[Any], epochs: int) -> Valued:
    tokens, dataset = prepared.tokens["train"], prepared.rows.dataset
    labels = dataset.index.label[tokens.rows]
    group = labels if bool((labels >= 0).all()) else None
    suspicion, kinds = dynamics.suspicion(group), dynamics.kinds(group)
    order = ranked(suspicion)
    entries: list[dict[str, Any]] = []
    with (out / f".tmp-{ROWS}").open("w", encoding="utf-8") as file:
        for place in order.tolist():
            row = dataset[int(tokens.rows[place])]
            entry = {
                "row": row.id or str(row.origin),
                "file": row.origin.file,
                "line": row.origin.line,
                "kind": str(kinds[place]),
                "suspicion": round(float(suspicion[place]), 4),
                "memorisation": round(float(dynamics.memorisation[place]), 4),
                "seen": np.round(dynamics.seen[:, place], 4).tolist(),
                "unseen": np.round(dynamics.unseen[:, place], 4).tolist(),
            }
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            if len(entries) < LISTED and suspicion[place] > 0:
                entries.append({**entry, "prompt": _line(asked(row)), "answer": _line(answered(row))})
    (out / f".tmp-{ROWS}").replace(out / ROWS)
    valued = Valued(
        folder=out,
        rows=len(tokens),
        folds=int(fold.max()) + 1,
        epochs=epochs,
        kinds=summary(kinds),
        held_out=np.round(dynamics.unseen.mean(axis=1), 4).tolist(),
        top=entries,
    )
    (out / SUMMARY).write_text(json.dumps(valued.json(), ensure_ascii=False, indent=1), encoding="utf-8")
    return valued


def _line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."
