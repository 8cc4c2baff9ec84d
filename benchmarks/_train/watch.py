"""What is measured inside a contender's own process: when steps end, the machine's matrix peak, and memory.

Imported in every environment; needs torch. Start-up is counted from the moment the process was asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from _train.work import Work

SIDE = {"cpu": 2048, "cuda": 8192}
PEAK_SECONDS = 0.3
LIBRARIES = ("sartor", "torch", "transformers", "trl", "peft", "accelerate")


@dataclass
class Watch:
    """Times the steps of one training; `stepped` is called at the end of each, with the loss it had."""

    work: Work
    started: float
    """When the process was asked for, seconds since the epoch."""
    warmup: int
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    """What the contender chose, for the reader."""
    losses: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    """CPU seconds of this process, all threads, at the same moments."""
    found: dict[str, Any] = field(default_factory=dict)

    def stepped(self) -> None:
        """One more optimiser step is done. Between warm-up and measured steps, and after them, the peak is measured."""
        done = len(self.ends) + 1
        if done in (1, self.warmup, self.warmup + self.steps):
            self._settle()
        now, used = time.perf_counter(), time.process_time()
        if done == 1:
            self.found["first_step_seconds"] = time.time() - self.started
        if done == self.warmup:
            self.found["warm_seconds"] = time.time() - self.started
            self.found["peak_before"] = self._peak()
            now, used = time.perf_counter(), time.process_time()
        self.ends.append(now)
        self.used.append(used)
        if done == self.warmup + self.steps:
            self.found["memory_bytes"] = self._memory()
            self.found["peak_after"] = self._peak()

    def _settle(self) -> None:
        if self.work.device == "cuda":
            torch.cuda.synchronize()

    def _peak(self) -> dict[str, float]:
        return {name: matrix_peak(self.work.device, getattr(torch, name)) for name in ("bfloat16", "float32")}

    def _memory(self) -> int:
        """Bytes: the GPU allocator's peak, or the largest resident size of this process.

        Read from /proc, for getrusage starts from the resident size of the process that started this one.
        """
        if self.work.device == "cuda":
            return int(torch.cuda.max_memory_allocated())
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("/proc/self/status names no VmHWM")

    def json(self) -> dict[str, Any]:
        """What the driver reads. Raises RuntimeError when steps are missing."""
        if len(self.ends) != self.warmup + self.steps:
            raise RuntimeError(f"{len(self.ends)} steps were taken, {self.warmup + self.steps} were asked for")
        marks = self.ends[self.warmup - 1 :]
        return {
            **self.found,
            "step_seconds": [after - before for before, after in pairwise(marks)],
            "cpu_seconds": self.used[-1] - self.used[self.warmup - 1],
            "losses": self.losses,
            "settings": self.settings,
            "versions": {name: found for name in LIBRARIES if (found := _version(name))},
        }


def matrix_peak(device: str, dtype: torch.dtype) -> float:
    """Operations per second of a large square product: the median over at least `PEAK_SECONDS`."""
    side = SIDE[device]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    torch.mm(left, right, out=out)
    taken: list[float] = []
    while sum(taken) < PEAK_SECONDS or len(taken) < 3:
        _wait(device)
        began = time.perf_counter()
        torch.mm(left, right, out=out)
        _wait(device)
        taken.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(taken)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


Train = Callable[[Work, Watch, str, bool], None]
"""(work, watch, contender, exact): train with the contender's settings and tell `watch`; `exact`: one step, all fp32."""


def main(train: Train, arguments: Sequence[str] | None = None) -> None:
    """Run a contender as the driver asks for it and write what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("contender")
    parser.add_argument("--started", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--exact", action="store_true", help="one step in fp32; only its loss is reported")
    asked = parser.parse_args(arguments)
    work = Work.open(asked.folder)
    torch.set_num_threads(work.threads)
    watch = Watch(work, asked.started, *((0, 1) if asked.exact else (work.warmup, work.steps)))
    train(work, watch, asked.contender, asked.exact)
    asked.out.write_text(json.dumps({"losses": watch.losses} if asked.exact else watch.json()))
