"""Rows per second and peak memory of preparing data, by number of rows: time is to double with the rows, memory to stay.

    python benchmarks/prepare.py [--json] [--rows 5000,20000,80000] [--kind short|chat|labels] [--epoch]

Each number of rows is prepared in a process of its own with the embedded base model, as `sartor run` does before it trains:
read, checked, divided, rendered, proven, stored; then once more, which opens what is kept. Peaks are those of the whole
process: all memory that is resident, mapped files included, and the part of it that no file backs. `seconds` is wall time,
`cpu` the processor time of all threads. With `--epoch`, some steps of training on the smallest number of rows tell how long
one epoch takes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from math import log2
from pathlib import Path
from statistics import median
from typing import Any

MIB = 1 << 20
WARM, STEPS = 4, 12
"""Steps of training that are not counted, and those that are."""
TWIN = 20
"""Every so many rows, one is a near copy of the row before."""


def rows(kind: str, count: int) -> Iterator[dict[str, Any]]:
    """Made-up rows of some 20 words, the same each time."""
    draw = random.Random(1)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(4000)]
    before = ""
    for number in range(count):
        asked, said = (" ".join(draw.choices(words, k=draw.randint(*most))) for most in ((6, 14), (4, 10)))
        if number % TWIN == TWIN - 1:
            asked = f"{before} please"
        before = asked
        if kind == "labels":
            yield {"text": asked, "label": f"label {draw.randrange(8)}"}
        elif kind == "chat":
            turns = [("user", asked), ("assistant", said), ("user", f"and {said}"), ("assistant", asked)]
            yield {"messages": [{"role": role, "content": content} for role, content in turns]}
        else:
            yield {"prompt": asked, "completion": said}


def write_job(folder: Path, kind: str, count: int) -> int:
    """The rows and a recipe of two lines; returns the bytes of the rows."""
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(kind, count))
    (folder / "recipe.yaml").write_text("base: sartor/nano\ndata: rows.jsonl\n", encoding="utf-8")
    return path.stat().st_size


class Peak:
    """While entered, watches how much memory of this process no file backs."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            self.bytes = max(self.bytes, int(status.partition("RssAnon:")[2].split(maxsplit=1)[0]) << 10)


def child(folder: Path) -> dict[str, Any]:
    """Prepare the job in `folder` in this process, twice."""
    from sartor.events import Event, Progressed
    from sartor.flow.prepare import prepare
    from sartor.recipe.load import load

    ends: dict[str, float] = {}

    def hear(event: Event) -> None:
        if isinstance(event, Progressed):
            ends[event.task.partition(" ")[0]] = time.perf_counter()

    before = Path("/proc/self/status").read_text(encoding="utf-8").partition("VmRSS:")[2].split(maxsplit=1)[0]
    with Peak() as peak:
        began, used = time.perf_counter(), time.process_time()
        prepared = prepare(load(folder / "recipe.yaml", ()), folder / "data", hear)
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    again = time.perf_counter()
    prepare(load(folder / "recipe.yaml", ()), folder / "data", lambda event: None)
    again = time.perf_counter() - again
    stages, last = {}, began
    for name, end in ends.items():
        stages[name], last = round(end - last, 3), end
    return {
        "seconds": round(seconds, 3),
        "cpu": round(cpu, 3),
        "again": round(again, 3),
        "stages": stages,
        "before_bytes": int(before) << 10,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "peak_anonymous_bytes": peak.bytes,
        "tokens": sum(tokens.tokens for tokens in prepared.tokens.values()),
        "train_tokens": prepared.tokens["train"].tokens,
        "disk_bytes": sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file()),
    }


def train(folder: Path) -> dict[str, float]:
    """Tokens per second of training the embedded model on the job in `folder`, and the seconds of one epoch."""
    from sartor.events import Event, Stepped
    from sartor.flow.run import run

    steps: list[Stepped] = []

    def hear(event: Event) -> None:
        if isinstance(event, Stepped):
            steps.append(event)

    short = ("evaluate.rows=2", "evaluate.max_new_tokens=2", f"train.validation.every={WARM + STEPS}")
    run(folder / "recipe.yaml", folder / "run", (*short, f"train.steps={WARM + STEPS}"), (), hear)
    rate = median(step.tokens / step.seconds for step in steps[WARM:])
    return {"tokens_per_second": round(rate, 1)}


def fresh(task: str, folder: Path) -> dict[str, Any]:
    """`child` or `train` in a new process."""
    done = subprocess.run([sys.executable, __file__, f"--{task}", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    body: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return body


def growth(results: list[dict[str, Any]]) -> dict[str, float]:
    """What more rows cost, from the smallest and the largest number: bytes and seconds a row, and time by doubling."""
    small, large = results[0], results[-1]
    more = large["rows"] - small["rows"]
    doublings = log2(large["rows"] / small["rows"])
    return {
        "bytes_per_row": round((large["peak_bytes"] - small["peak_bytes"]) / more, 1),
        "anonymous_bytes_per_row": round((large["peak_anonymous_bytes"] - small["peak_anonymous_bytes"]) / more, 1),
        "cpu_microseconds_per_row": round(1e6 * (large["cpu"] - small["cpu"]) / more, 1),
        "cpu_by_doubling": round((large["cpu"] / small["cpu"]) ** (1 / doublings), 3),
    }


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.add_argument("--rows", default="5000,20000,80000")
    options.add_argument("--kind", choices=("short", "chat", "labels"), default="short")
    options.add_argument("--epoch", action="store_true")
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child or asked.train:
        print(json.dumps(child(asked.child) if asked.child else train(asked.train)))
        return 0
    results: list[dict[str, Any]] = []
    speed = None
    for count in sorted(map(int, asked.rows.split(","))):
        with tempfile.TemporaryDirectory(prefix="sartor-prepare-") as name:
            size = write_job(Path(name), asked.kind, count)
            results.append({"rows": count, "bytes": size, **fresh("child", Path(name))})
            if asked.epoch and len(results) == 1:
                speed = fresh("train", Path(name))["tokens_per_second"]
    for result in results:
        result["rows_per_second"] = round(result["rows"] / result["seconds"])
        if speed:
            result["epoch_seconds"] = round(result["train_tokens"] / speed, 1)
    grows = growth(results) if len(results) > 1 else None
    if asked.json:
        machine = {"platform": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()}
        versions = {name: version(name) for name in ("sartor", "numpy", "tokenizers", "rensa")}
        body = {"kind": asked.kind, "results": results, "growth": grows, "tokens_per_second": speed}
        print(json.dumps({**body, "machine": machine, "versions": versions}, indent=2))
        return 0
    print(f"{'rows':>10} {'seconds':>9} {'cpu':>9} {'rows/s':>8} {'peak MiB':>9} {'unbacked':>9} {'again':>7}   stages")
    for result in results:
        peaks = f"{result['peak_bytes'] / MIB:9.0f} {result['peak_anonymous_bytes'] / MIB:9.0f}"
        stages = "  ".join(f"{name} {seconds:.1f}" for name, seconds in result["stages"].items())
        epoch = f"   one epoch {result['epoch_seconds']:.0f} s" if speed else ""
        print(
            f"{result['rows']:10,} {result['seconds']:9.2f} {result['cpu']:9.2f} {result['rows_per_second']:8,} {peaks} "
            f"{result['again']:7.2f}   {stages}{epoch}"
        )
    if grows:
        print("  ".join(f"{name.replace('_', ' ')}: {value:,}" for name, value in grows.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
