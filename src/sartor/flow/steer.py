"""The operating point: which checkpoint, and how far from base to tuned model, is best in the task without forgetting too much.

Candidates are the checkpoints that are still there, and the points between the start of training and the best of them,

    w = (1 - alpha) w_start + alpha w_tuned        (Wortsman et al. 2022, equation 1; of LoRA the scale, B -> alpha B)

each measured on the validation rows that steer training and on the questions that are kept apart from the verdict's. A point fits
when the whole interval of its paired difference to the base in general ability lies above minus the bound; of those the one that is
best in the task is taken. The test rows stay closed. One model is in memory, and no step is trained.

    stages/0-sft/general.json      what the base made of the questions
    stages/0-sft/steering.json     all points, and the one that was taken
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sartor.engine.state import read_weights
from sartor.evaluate import intervals
from sartor.events import Finished, Noted
from sartor.store import atomic
from sartor.store.tensors import Stored, save_tensors

if TYPE_CHECKING:
    import torch

    from sartor.engine.loop import Validate
    from sartor.engine.precision import Masters
    from sartor.flow.general import Probe
    from sartor.recipe.schema import Recipe
    from sartor.store.checkpoint import Checkpoints

BASE = "general.json"
STEERING = "steering.json"
START = "start"
ALPHAS = tuple(round(step / 10, 1) for step in range(1, 10))
HALVINGS = 3
"""How often the stretch in which the bound is passed is halved."""
RESAMPLES = 2000
MOST_REPLAY = 0.5
"""Largest share of replay that is advised."""
LEAST_REPLAY = 0.05
ADDS = ("lora", "qlora")
"""Methods whose update is a product, so that its scale is that of B."""
MOVES = ("full", "partial")
"""Methods that move the weights themselves."""


@dataclass(frozen=True, slots=True)
class Place:
    """Weights that could be the model: of a checkpoint, or on the way to them."""

    step: int
    alpha: float


@dataclass(frozen=True, slots=True)
class Point:
    """A place with what was measured there."""

    step: int
    alpha: float
    task: float
    general: float
    low: float
    """Interval of the paired difference to the base."""
    high: float
    fits: bool

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.step, self.alpha)


@dataclass(frozen=True, slots=True)
class Aim:
    """What is looked for."""

    metric: str
    """Of the task, as validation tells it."""
    sign: float
    """+1 where higher is better, -1 where lower is."""
    drop_at_most: float
    confidence: float
    seed: int


class Helm:
    """Chooses among the weights of one stage. Every rank makes one and calls the same methods."""

    def __init__(self, folder: Path, aim: Aim, probe: Probe, weights: Masters, method: str, *, last: bool) -> None:
        """Call it before training, while the weights are those that training begins with.

        `folder` may hold what the base made of the questions; else training begins with the base. `last`: whether `choose`
        will be called.
        """
        self.folder, self.aim, self.probe, self.weights = folder, aim, probe, weights
        self.slides = method in ADDS or (method in MOVES and not weights.lockstep)
        """Whether there are points between the start and a checkpoint."""
        world = weights.world
        known = world.lead(lambda: _read(folder / BASE))
        shares = probe.shares() if known is None else np.array(known["shares"])
        self.base = shares
        self.steering: dict[str, Any] = {}
        """What was written, once the choice is made."""

        def keep() -> None:
            atomic.make_folder(folder)
            if known is None:
                atomic.write_json(folder / BASE, {"shares": shares.tolist()})
            moved = {name: master for name, master in weights.masters.items() if not _update(name)}
            if last and self.slides and moved and not weights.lockstep:
                save_tensors({name: each.detach().contiguous() for name, each in moved.items()}, self._start, {})

        world.lead(keep)

    @property
    def _start(self) -> Path:
        return self.folder / f"{START}.safetensors"

    def choose(self, validate: Validate, checkpoints: Checkpoints, finished: Finished) -> Point | None:
        """Measure every candidate and leave the weights of the chosen one; None, and those of the best step, where none fits."""
        steps = self.weights.world.lead(checkpoints.steps)
        places = [Place(step, 1.0) for step in steps if step > 0]
        if self.slides and finished.best_step > 0:
            places += [Place(finished.best_step, alpha) for alpha in reversed(ALPHAS)]
        points = [self._measured(place, validate, checkpoints) for place in places]
        for _ in range(HALVINGS if self.slides and finished.best_step > 0 else 0):
            alpha = between([point for point in points if point.step == finished.best_step])
            if alpha is None:
                break
            points.append(self._measured(Place(finished.best_step, alpha), validate, checkpoints))
        points.sort(key=lambda point: (point.step, point.alpha))
        chosen = best(points, self.aim)
        self.load(Place(finished.best_step, 1.0) if chosen is None else chosen.place, checkpoints)
        self.steering = self.weights.world.lead(lambda: self._told(points, chosen))
        return chosen

    def load(self, place: Place, checkpoints: Checkpoints, into: Masters | None = None) -> None:
        """Put the weights of a place into the model, or into another one with the same parameters."""
        into = self.weights if into is None else into
        checkpoint = checkpoints.path(place.step)
        if place.alpha == 1:
            read_weights(checkpoint, into)
            return
        begun = Stored(self.folder, START) if self._start.exists() else {}
        into.load(Drawn(Stored(checkpoint, "weights", into.part), begun, place.alpha))

    def _measured(self, place: Place, validate: Validate, checkpoints: Checkpoints) -> Point:
        self.load(place, checkpoints)
        task = float(validate()[self.aim.metric])
        shares = self.probe.shares()
        low, high = paired(shares - self.base, self.aim.confidence, self.aim.seed)
        fits = low >= -self.aim.drop_at_most and math.isfinite(task)
        return Point(place.step, place.alpha, task, float(shares.mean()), low, high, fits)

    def _told(self, points: Sequence[Point], chosen: Point | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "metric": self.aim.metric,
            "higher_is_better": self.aim.sign > 0,
            "drop_at_most": self.aim.drop_at_most,
            "base": float(self.base.mean()),
            "questions": len(self.base),
            "points": [_plain(asdict(point)) for point in points],
            "chosen": None if chosen is None else asdict(chosen.place),
        }
        atomic.write_json(self.folder / STEERING, body)
        self._start.unlink(missing_ok=True)
        return body


class Drawn(Mapping[str, "torch.Tensor"]):
    """Tensors between those at the start and those of a checkpoint, each made when it is asked for."""

    def __init__(self, tuned: Mapping[str, torch.Tensor], begun: Mapping[str, torch.Tensor], alpha: float) -> None:
        self._tuned, self._begun, self._alpha = tuned, begun, alpha

    def __len__(self) -> int:
        return len(self._tuned)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tuned)

    def __getitem__(self, name: str) -> torch.Tensor:
        """A is as it was learnt, B is scaled, and every other weight lies on the line from its start."""
        import torch

        tuned = self._tuned[name]
        if _update(name):
            return tuned * self._alpha if ".lora_B." in name else tuned
        return torch.lerp(self._begun[name].to(tuned.dtype), tuned, self._alpha)


def _update(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def of_base(folder: Path, known: Sequence[Path]) -> None:
    """Let a stage know what the base made of the questions, from the first stage that asked it."""
    if known and not (folder / BASE).exists():
        atomic.make_folder(folder)
        atomic.write_bytes(folder / BASE, known[0].read_bytes())


def best(points: Sequence[Point], aim: Aim) -> Point | None:
    """The best in the task of those that fit, of equals the one that keeps more; None where none fits."""
    fitting = [point for point in points if point.fits]
    return max(fitting, key=lambda point: (aim.sign * point.task, point.general), default=None)


def between(points: Sequence[Point]) -> float | None:
    """Halfway from the largest alpha that fits (0, which is the base, if none does) to the next one; None where the last one fits."""
    fits = max((point.alpha for point in points if point.fits), default=0.0)
    beyond = min((point.alpha for point in points if point.alpha > fits), default=None)
    return None if beyond is None else (fits + beyond) / 2


def paired(differences: np.ndarray, confidence: float, seed: int) -> tuple[float, float]:
    """Interval of the mean of [n] differences, question by question (bias-corrected, accelerated bootstrap)."""
    count = len(differences)
    resampled = np.concatenate([chunk @ differences / count for chunk in intervals.weights(count, RESAMPLES, seed)])
    without = (differences.sum() - differences) / max(1, count - 1)
    found = intervals.bca(resampled, float(differences.mean()), without, confidence)
    return found.low, found.high


def told(chosen: Point | None, finished: Finished, aim: Aim, base: float) -> Noted | None:
    """What the user should know of the choice where nothing else will be said; None where it changed nothing."""
    if chosen is None or (chosen.step == finished.best_step and chosen.alpha == 1):
        return None
    what = f"step {chosen.step:,}" + (f" at {chosen.alpha:g} of the way from its start" if chosen.alpha < 1 else "")
    kept = f"general ability {base:.3f} → {chosen.general:.3f}, {aim.drop_at_most:g} may be lost"
    first = f"the model is {what} instead of step {finished.best_step:,}: the best in {aim.metric} ({chosen.task:.4g})"
    return Noted("info", "N417", f"{first} of those within the bound; {kept}", chosen.step)


def advice(recipe: Recipe, steering: Mapping[str, Any], rate: float) -> Noted:
    """What to try where no candidate fits. The share of replay goes with the drop: a rule of thumb, to be measured again."""
    bound = float(steering["drop_at_most"])
    whole = [point for point in steering["points"] if point["alpha"] == 1]
    last = max(whole, key=lambda point: int(point["step"]), default=None)
    drop = 0.0 if last is None else float(steering["base"]) - float(last["general"])
    replay = [source.weight or LEAST_REPLAY for source in recipe.data.sources if source.role == "replay"]
    share = min(MOST_REPLAY, max(LEAST_REPLAY, (sum(replay) or LEAST_REPLAY) * max(1.0, drop / bound)))
    speed = "" if last is None or drop <= 0 else f" (it fell by {100 * drop / int(last['step']):.3f} in 100 steps)"
    more = "more replay" if replay else "replay"
    what = (
        f"no checkpoint, and no point on the way to it, surely keeps general ability within {bound:g} of the base's{speed}; "
        f"try {more}, data: [..., {{path: builtin:general, role: replay, weight: {share:.2g}}}], train.anchor: l2_start, "
        f"or a learning rate of {rate / 3:.1g}"
    )
    return Noted("warning", "N418", what)


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in body.items()
    }


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return body
