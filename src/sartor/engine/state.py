"""Everything a resumed run needs, as safetensors and JSON: master weights, optimiser state, position, history.

The dropout stream is a function of (seed, step) and the row order one of (seed, epoch, cursor), so no generator state is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sartor.engine.updater import Updater
from sartor.events import Validated
from sartor.protocols import Saver
from sartor.tokens.source import TokenSource


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


def state_writers(updater: Updater, source: TokenSource, progress: Progress) -> dict[str, Saver]:
    """File name -> what writes it."""
    body = json.dumps({"progress": progress.json(), "source": source.state()}, allow_nan=False)
    return {
        "weights.safetensors": lambda path: save_file(updater.weight_tensors(), path),
        "optimizer.safetensors": lambda path: save_file(updater.state_tensors(), path),
        "state.json": lambda path: _write(path, body),
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_state(folder: Path, updater: Updater, source: TokenSource | None) -> Progress:
    """Load a checkpoint into the updater (and the source, when given)."""
    body = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    updater.load(load_file(folder / "weights.safetensors"), load_file(folder / "optimizer.safetensors"))
    if source is not None:
        source.restore(body["source"])
    return Progress.from_json(body["progress"])
