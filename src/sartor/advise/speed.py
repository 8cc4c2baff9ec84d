"""How long work takes on this machine: counted operations, divided by how many a second earlier runs here were measured at.

Every run that ends writes what it measured into `speed.json` in the user's cache. Where nothing alike has run yet, the speed is
a cautious guess from the kind of processor. A prediction is a range and says what it rests on.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sartor.console import about
from sartor.errors import SartorError
from sartor.store import atomic

if TYPE_CHECKING:
    from sartor.advise.hardware import Hardware
    from sartor.advise.memory import Job
    from sartor.advise.shape import Shape

Kind = Literal["train", "evaluate"]
KEPT = 200
"""Measurements kept in the cache, the newest."""
ALIKE = 4.0
"""Largest ratio of operations a token between two models of which one tells how fast the other will be."""
SPREAD = 1.3
"""How far two runs of the same work lie apart on a machine that also does other things."""
GUESS = 2.5
"""The same factor for a speed that is only guessed."""
SHORTEST = 2.0
"""Seconds of work under which a measurement says nothing."""
CPU_FLOPS = {("amx_bf16", "bfloat16"): 2.0e11, ("avx512_bf16", "bfloat16"): 6.0e10, ("bf16", "bfloat16"): 6.0e10}
"""Operations a second of one core in training, by the processor's feature for bf16 products and the type."""
PLAIN_FLOPS = 3.0e10
GPU_FLOPS = {"B200": 6.0e14, "H200": 3.0e14, "H100": 3.0e14, "A100": 1.2e14, "L40": 7.0e13, "4090": 7.0e13}
"""Of a GPU by a part of its name."""
OTHER_GPU_FLOPS = 2.0e13
NARROW = 512
"""Hidden size under which products are too small to keep a processor busy; half that size halves the speed."""
WAITING = {"train": 1.0, "evaluate": 0.25}
"""Share of the training speed: generation reads all weights for every token."""


@dataclass(frozen=True, slots=True)
class Work:
    """Operations in all, and of one token, which says how large the model is."""

    kind: Kind
    flops: float
    per_token: float


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long something takes, and what that rests on."""

    expected: float
    low: float
    high: float
    source: str

    def __add__(self, other: Seconds) -> Seconds:
        """One after the other."""
        sources = self.source if self.source == other.source else f"{self.source}; {other.source}"
        return Seconds(self.expected + other.expected, self.low + other.low, self.high + other.high, sources)

    def __str__(self) -> str:
        return f"{about(self.low)} to {about(self.high)}" if about(self.low) != about(self.high) else about(self.high)


@dataclass(frozen=True, slots=True)
class Place:
    """What speed depends on beside the work: the machine and how it computes."""

    machine: str
    dtype: str
    adapter: bool
    kernels: bool

    @classmethod
    def of(cls, hardware: Hardware, threads: int, job: Job) -> Place:
        """Where a job runs."""
        threads = 0 if hardware.device == "cuda" else threads
        return cls(f"{hardware.name}, {threads} threads", job.dtype, bool(job.rank), job.kernels)


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement."""

    place: Place
    kind: Kind
    per_token: float
    """Operations a token."""
    rate: float
    """Operations a second."""
    when: float
    """Seconds since the epoch."""


def forward(form: Shape, scored: float, row: float) -> float:
    """Operations of a forward pass for one token: two for each weight it meets, and attention over half of its row."""
    return 2.0 * (form.linear + scored * form.head) + 2.0 * form.layers * form.query * row


def training(form: Shape, job: Job, tokens: float, row: float) -> Work:
    """A backward pass costs as much again for what flows through, and once more for the gradients of trained weights."""
    passes = (3.0 if job.rank == 0 else 2.0) + (1.0 if job.checkpointed else 0.0)
    each = passes * forward(form, job.scored, row)
    return Work("train", tokens * each, each)


def evaluation(form: Shape, tokens: float, row: float) -> Work:
    """Tokens that are read or generated."""
    each = forward(form, 1.0, row)
    return Work("evaluate", tokens * each, each)


def predict(
    work: Work, place: Place, hardware: Hardware, threads: int, form: Shape, cache: Path | None = None
) -> Seconds:
    """From the nearest measurements on this machine, or a guess."""
    near = nearest(read(cache), place, work)
    if near:
        rate = statistics.median(each.rate for each in near)
        apart = max(max(work.per_token, near[0].per_token) / min(work.per_token, near[0].per_token), 1.0)
        spread = SPREAD * math.sqrt(apart)
        runs = "run" if len(near) == 1 else "runs"
        size = (
            ""
            if apart < SPREAD
            else f" with a model {apart:.1f} times {'smaller' if near[0].per_token < work.per_token else 'larger'}"
        )
        source = f"measured in {len(near)} {runs} here{size}"
    else:
        rate, source = guess(hardware, threads, place.dtype, form) * WAITING[work.kind], _basis(hardware, threads)
        spread = GUESS
    expected = work.flops / rate
    return Seconds(expected, expected / spread, expected * spread, source)


def nearest(measured: Sequence[Measured], place: Place, work: Work) -> list[Measured]:
    """The newest measurements of the same kind in the same place, of models closest in size; at most five."""

    def apart(each: Measured) -> float:
        return abs(math.log(each.per_token / work.per_token))

    same = [
        each for each in measured if each.place == place and each.kind == work.kind and apart(each) <= math.log(ALIKE)
    ]
    closest = min(map(apart, same), default=0.0)
    chosen = [each for each in same if apart(each) <= closest + math.log(1.1)]
    return sorted(chosen, key=lambda each: -each.when)[:5]


def guess(hardware: Hardware, threads: int, dtype: str, form: Shape) -> float:
    """Operations a second that training reaches on hardware of this kind, cautiously."""
    narrow = min(1.0, form.hidden / NARROW)
    if hardware.device == "cuda":
        named = (rate for name, rate in GPU_FLOPS.items() if name in hardware.name)
        return next(named, OTHER_GPU_FLOPS) * narrow
    return threads * CPU_FLOPS.get((hardware.bf16 or "", dtype), PLAIN_FLOPS) * narrow


def _basis(hardware: Hardware, threads: int) -> str:
    if hardware.device == "cuda":
        return f"guessed from the GPU ({hardware.name}); runs here will measure it"
    feature = f" with {hardware.bf16}" if hardware.bf16 else ""
    cores = "core" if threads == 1 else "cores"
    return f"guessed from {threads} {cores}{feature}; runs here will measure it"


def home() -> Path:
    """The file of measurements: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sartor" / "speed.json"


def read(cache: Path | None = None) -> list[Measured]:
    """All measurements kept; none where the file is missing or not ours."""
    path = cache or home()
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [Measured(**{**entry, "place": Place(**entry["place"])}) for entry in entries]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def record(work: Work, place: Place, seconds: float, cache: Path | None = None) -> bool:
    """Keep that `work` took so long here; too short a time is not kept, nor anything where the cache cannot be written."""
    if seconds < SHORTEST or work.flops <= 0:
        return False
    path = cache or home()
    made = Measured(place, work.kind, work.per_token, work.flops / seconds, round(time.time(), 1))
    try:
        atomic.write_json(path, [asdict(each) for each in [*read(path), made][-KEPT:]])
    except SartorError:
        return False
    return True
