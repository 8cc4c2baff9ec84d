"""Seconds from `sartor run` to the end of the first optimiser step, and where they go: 15m shape, 1,000 rows, all defaults.

    python benchmarks/first_step.py [--json] [--starts N] [--rows N] [--threads N] [--against base,few_shot]

Each start is a new process with a new run folder; it is stopped after its first step. The first start, which warms the disk
(and builds what is built once on a machine), is shown apart. The model has random weights and never ends an answer, so the
measurement of the base model takes as long as it can.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _train.work import SEED, SHAPES

from sartor.embedded import nano
from sartor.store import environment

SECONDS = 600
"""Longest a start may take."""
PARTS = ("read and prepare rows", "load the base", "baseline", "train to first step")
"""What happens up to the stage events of a run: data, baseline, train; and to the first step."""


def write_job(folder: Path, rows: int, against: list[str], threads: int | None) -> None:
    """A model folder, rows with questions of some sixty words and answers of twelve, and a recipe of two lines."""
    from sartor.models.hf import random_causal

    random_causal(SHAPES["15m"].config(), seed=SEED).save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(nano() / name, folder / "model" / name)
    draw = np.random.default_rng(SEED)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draw.choice(syllables, draw.integers(1, 4))) for _ in range(3000)]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(rows):
            prompt = " ".join(draw.choice(words, draw.integers(30, 90)))
            row = {"prompt": prompt, "completion": " ".join(draw.choice(words, 12))}
            file.write(json.dumps(row) + "\n")
    recipe = "base: ./model\ndata: rows.jsonl\n"
    recipe += f"evaluate: {{against: [{', '.join(against)}]}}\n" if against != ["base", "few_shot"] else ""
    recipe += f"train: {{threads: {threads}}}\n" if threads else ""
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")


def events(log: Path) -> list[dict[str, Any]]:
    """The whole lines of a log that may be growing."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def start(folder: Path, out: Path) -> dict[str, float]:
    """Seconds of each part up to the first step. Raises SystemExit when the run ends before it."""
    errors = out.with_suffix(".log")
    with errors.open("w") as stderr:
        began = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", "sartor", "run", str(folder / "recipe.yaml"), "--out", str(out)],
            stdout=stderr,
            stderr=stderr,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            while not any(event["event"] == "step" for event in events(out / "events.jsonl")):
                if process.poll() is not None or time.time() - began > SECONDS:
                    raise SystemExit(f"no step was taken:\n{errors.read_text()[-2000:]}")
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait(timeout=60)
    return parts(began, events(out / "events.jsonl"))


def parts(began: float, log: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of each stage, and `total`: from the start of the process to the end of the first step."""
    marks = [began, *(event["time"] for event in log if event["event"] == "stage")]
    marks = [*marks[: len(PARTS)], next(event["time"] for event in log if event["event"] == "step")]
    taken = {name: marks[place + 1] - marks[place] for place, name in enumerate(PARTS)}
    return {**taken, "total": marks[-1] - began}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--threads", type=int, help="train.threads (every core)")
    parser.add_argument("--against", default="base,few_shot", help="evaluate.against")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_job(folder, asked.rows, asked.against.split(","), asked.threads)
        first, *others = [start(folder, folder / f"run-{index}") for index in range(asked.starts + 1)]
    middle = {key: median(each[key] for each in others or [first]) for key in first}
    if asked.json:
        body = {"median": middle, "first": first, "starts": others, "load_average": os.getloadavg()[0]}
        print(json.dumps({**body, "rows": asked.rows, "machine": environment.facts()}, indent=1))
        return
    print(f"{'':24} {'median':>8} {'first':>8}   seconds, {asked.rows} rows, load average {os.getloadavg()[0]:.1f}")
    for key, value in middle.items():
        print(f"{key:24} {value:8.2f} {first[key]:8.2f}")


if __name__ == "__main__":
    main()
