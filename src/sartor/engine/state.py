"""Everything a resumed run needs, as safetensors and JSON: master weights, optimiser state, position, history.

The dropout stream is a function of (seed, step, rank, micro-batch) and the row order one of (seed, epoch, cursor), so no
generator state is kept. Several ranks each write their share, and any number of ranks reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sartor.engine.precision import Masters
from sartor.engine.updater import Updater
from sartor.events import Validated
from sartor.protocols import BatchSource, Saver
from sartor.store.tensors import Part, Stored, save_tensors

WINDOW = 128
"""Losses that a spike is measured against."""


@dataclass
class Progress:
    """How far training has come."""

    step: int = 0
    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0
    stopped: str | None = None
    """Why a watcher ended training, once it has."""
    best_step: int = 0
    """The step whose weights are kept so far."""
    loss_sum: float = 0.0
    loss_weight: float = 0.0
    history: list[Validated] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    """Losses of the last steps taken, at most `WINDOW`."""
    skipped: int = 0
    """Steps left out since the last one taken."""

    @property
    def train_loss(self) -> float:
        """Mean training loss since the last validation; NaN before the first step."""
        return self.loss_sum / self.loss_weight if self.loss_weight else float("nan")

    def forget_loss(self) -> None:
        """Start a new mean."""
        self.loss_sum = self.loss_weight = 0.0

    def took(self, step: int, loss: float, weight: float, tokens: int, supervised: int, seconds: float) -> None:
        """Count one optimiser step."""
        self.step = step
        self.loss_sum += loss * weight
        self.loss_weight += weight
        self.tokens += tokens
        self.supervised += supervised
        self.seconds += seconds
        self.recent = [*self.recent, loss][-WINDOW:]
        self.skipped = 0

    def json(self) -> dict[str, Any]:
        """A JSON object; a NaN becomes null."""
        body = asdict(self)
        body["history"] = [event.json() for event in self.history]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Progress:
        """The inverse of `json`."""
        history = []
        for entry in body["history"]:
            fields = {key: value for key, value in entry.items() if key != "event"}
            if fields["train_loss"] is None:
                fields["train_loss"] = float("nan")
            history.append(Validated(**fields))
        return cls(**{**body, "history": history})


def state_writers(updater: Updater, source: BatchSource, progress: Progress) -> dict[str, Saver]:
    """File name -> what writes it: this rank's share of the tensors, and on rank 0 the rest."""
    weights, world = updater.weights, updater.weights.world
    suffix = "" if world.alone else f"-{world.rank}-of-{world.size}"
    body = json.dumps({"progress": progress.json(), "source": source.state()}, allow_nan=False)
    writers: dict[str, Saver] = {
        f"weights{suffix}.safetensors": lambda path: _write_tensors(path, updater.weight_tensors(), weights),
        f"optimizer{suffix}.safetensors": lambda path: _write_tensors(path, updater.state_tensors(), weights),
    }
    if world.first:
        writers["state.json"] = lambda path: _write(path, body)
    return writers


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], weights: Masters) -> None:
    """Of each tensor the rows that this rank holds; what is not cut like its parameter is written by rank 0."""
    parts: dict[str, Part] = {}
    mine: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        owner = _owner(name)
        part = weights.part(owner)
        if part is None:
            if weights.writes(owner):
                mine[name] = tensor
        elif tensor.shape == weights.masters[owner].shape:
            if part.start < part.stop:
                mine[name], parts[name] = tensor, part
        elif tensor.ndim:
            raise ValueError(f"{name} cannot be cut over ranks")
        elif weights.world.first:
            mine[name] = tensor
    save_tensors(mine, path, parts)


def _owner(name: str) -> str:
    """The parameter that a tensor of a checkpoint belongs to."""
    return name.partition("/")[0]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_weights(folder: Path, weights: Masters) -> None:
    """Load only the weights of a checkpoint, whichever ranks wrote it."""
    weights.load(Stored(folder, "weights", weights.part))


def read_state(folder: Path, updater: Updater, source: BatchSource | None) -> Progress:
    """Load a checkpoint, whichever ranks wrote it, into the updater (and the source, when given)."""
    body = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    part = updater.weights.part
    updater.load(Stored(folder, "weights", part), Stored(folder, "optimizer", lambda name: part(_owner(name))))
    if source is not None:
        source.restore(body["source"])
    return Progress.from_json(body["progress"])
