"""CPU time of `sartor --help` and of `sartor check`: the median of some starts, each a new process.

    python benchmarks/startup.py [--json] [--starts N] [--recipe FILE]

Without a recipe, `check` is given 200 made-up rows and the embedded base model.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median

BARS = {"help": 0.15, "check": 1.0}
"""Seconds of CPU time that must not be passed."""
RECIPE = "base: sartor/nano\ndata: rows.jsonl\n"


def measure(command: list[str], folder: Path, starts: int) -> list[float]:
    """CPU seconds of each start; the first, which warms the disk, is left out."""
    seconds = []
    for _ in range(starts + 1):
        before = os.times()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        after = os.times()
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}")
        used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
        seconds.append(used)
    return seconds[1:]


def rows(folder: Path) -> Path:
    """A recipe over 200 rows that differ."""
    lines = [
        json.dumps(
            {
                "prompt": f"Order number {n}: {n * 7 % 31} pens in colour {n % 9}",
                "completion": f"{n * 7 % 31} pens, noted as {n}",
            }
        )
        for n in range(200)
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    return recipe


def main() -> int:
    """Measure, print, and fail where a bar is passed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    options.add_argument("--starts", type=int, default=7)
    options.add_argument("--recipe", type=Path)
    asked = options.parse_args()
    sartor = [sys.executable, "-m", "sartor"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = asked.recipe.resolve() if asked.recipe else rows(folder)
        commands = {"help": [*sartor, "--help"], "check": [*sartor, "check", str(recipe)]}
        taken = {key: measure(command, folder, asked.starts) for key, command in commands.items()}
    results = {
        key: {"cpu_seconds": round(median(seconds), 3), "worst": round(max(seconds), 3), "bar": BARS[key]}
        for key, seconds in taken.items()
    }
    if asked.json:
        machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        versions = {name: version(name) for name in ("sartor", "click", "pydantic", "tokenizers")}
        print(
            json.dumps({"results": results, "starts": asked.starts, "machine": machine, "versions": versions}, indent=2)
        )
    else:
        print(f"{'':8} {'median':>8} {'worst':>8} {'bar':>8}   CPU seconds over {asked.starts} starts")
        for key, result in results.items():
            print(f"{key:8} {result['cpu_seconds']:8.3f} {result['worst']:8.3f} {result['bar']:8.2f}")
    return int(any(result["cpu_seconds"] > result["bar"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
