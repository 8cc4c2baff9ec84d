"""Sartor against datasets + datasketch: read, drop exact and near copies, divide, write. Sartor runs its whole audit as well.

    python benchmarks/data.py [--rows 20000] [--rounds 3] [--peers [DIR]] [--alone] [--json]

Made-up rows of some 20 words; every twentieth is a copy of an earlier one with one to three words changed, and every fiftieth an exact
copy. Each contender runs in its own process (and the peers in their own venv, made by `--peers`), in turns. `found` is the share
of planted copies at or above Jaccard 0.8 of which one row is gone, `wrong` the share of other rows that are gone. `--alone`
runs Sartor only, for numbers of rows that datasketch would take hours for.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from sartor.store import environment

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venv-peers-data"
PINS = HERE / "_data" / "peers.txt"
THRESHOLD = 0.8
MODULES = {"sartor": "_data.ours", "datasets_datasketch": "_data.with_datasets"}


def rows(count: int) -> Iterator[tuple[dict[str, str], int | None]]:
    """(row, the earlier row that it was made from) for every row, the same each time."""
    draw = random.Random(1)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20000)]
    made: list[list[str]] = []
    for number in range(count):
        text, parent = draw.choices(words, k=draw.randint(16, 30)), None
        if number and number % 20 == 19:
            parent = draw.randrange(len(made))
            text = list(made[parent])
            for _ in range(0 if number % 50 == 49 else draw.randint(1, 3)):
                text[draw.randrange(len(text))] = draw.choice(words)
        made.append(text)
        yield {"prompt": " ".join(text[:12]), "completion": " ".join(text[12:])}, parent


def alike(one: dict[str, str], two: dict[str, str]) -> float:
    """Jaccard similarity of words and pairs of neighbouring words."""
    sets = []
    for row in (one, two):
        words = f"{row['prompt']}\n{row['completion']}".split()
        sets.append({*words, *pairwise(words)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def write(path: Path, count: int) -> tuple[list[tuple[int, int]], set[int]]:
    """The rows as a file; (pairs of copies at or above the threshold, rows that are in none)."""
    made: list[dict[str, str]] = []
    pairs: list[tuple[int, int]] = []
    close: set[int] = set()
    with path.open("w", encoding="utf-8") as file:
        for row, parent in rows(count):
            file.write(json.dumps(row) + "\n")
            made.append(row)
            if parent is not None:
                close |= {parent, len(made) - 1}
                if alike(made[parent], row) >= THRESHOLD:
                    pairs.append((parent, len(made) - 1))
    return pairs, set(range(count)) - close


def judged(found: dict[str, Any], pairs: list[tuple[int, int]], others: set[int]) -> dict[str, float]:
    """Time, memory, and how right it was."""
    kept = set(found["kept"])
    gone = sum(not {one, two} <= kept for one, two in pairs)
    return {
        "seconds": found["seconds"],
        "cpu_seconds": found["cpu_seconds"],
        "peak_bytes": found["peak_bytes"],
        "found": gone / max(1, len(pairs)),
        "wrong": len(others - kept) / max(1, len(others)),
    }


def run(python: Path, module: str, file: Path) -> dict[str, Any]:
    """One contender in a fresh folder and process."""
    with tempfile.TemporaryDirectory(prefix="sartor-data-") as name:
        os.link(file, Path(name) / "rows.jsonl")
        own = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run(
            [str(python), "-m", module, name], cwd=HERE, capture_output=True, text=True, env={**os.environ, **own}
        )
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        body: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return body


def make_peers(folder: Path) -> None:
    """A venv with the pinned versions; nothing to do when it is there."""
    stamp = folder / "peers.txt"
    if stamp.exists() and stamp.read_text() == PINS.read_text():
        return
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin/python"), "-m", "pip", "install", "-q", "-r", str(PINS)], check=True)
    stamp.write_text(PINS.read_text())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers", nargs="?", type=Path, const=PEERS, default=PEERS, help=f"make their venv ({PEERS.name})"
    )
    parser.add_argument("--alone", action="store_true", help="Sartor only")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    names = ["sartor"] if asked.alone else list(MODULES)
    if not asked.alone:
        make_peers(asked.peers)
    pythons = {
        name: Path(sys.executable) if name == "sartor" else asked.peers.absolute() / "bin/python" for name in names
    }
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="sartor-data-") as folder:
        file = Path(folder) / "rows.jsonl"
        pairs, others = write(file, asked.rows)
        for _ in range(asked.rounds):
            for name in names:
                results[name].append(judged(run(pythons[name], MODULES[name], file), pairs, others))
    medians = {name: {key: median(each[key] for each in found) for key in found[0]} for name, found in results.items()}
    ratios = {}
    if not asked.alone:
        both = zip(*results.values(), strict=True)
        faster = [theirs["seconds"] / ours["seconds"] for ours, theirs in both]
        ratios = {
            "times_faster_than_datasets_datasketch": median(faster),
            "cpu_seconds_to_datasets_datasketch": medians["sartor"]["cpu_seconds"]
            / medians["datasets_datasketch"]["cpu_seconds"],
            "memory_to_datasets_datasketch": medians["sartor"]["peak_bytes"]
            / medians["datasets_datasketch"]["peak_bytes"],
        }
    if asked.json:
        body = {"rows": asked.rows, "planted": len(pairs), "results": results, "median": medians, "ratios": ratios}
        print(json.dumps({**body, "machine": environment.facts(), "load": os.getloadavg()}, indent=1))
        return 0
    print(
        f"{asked.rows:,} rows, {len(pairs):,} planted copies at Jaccard {THRESHOLD:g} or more, median of {asked.rounds} rounds"
    )
    for name, entry in medians.items():
        print(
            f"{name:>20} {entry['seconds']:9.1f} s {entry['cpu_seconds']:9.1f} CPU s {asked.rows / entry['seconds']:10,.0f} rows/s {entry['peak_bytes'] / 2**20:8,.0f} MiB"
            f"   found {entry['found']:.2%}   wrong {entry['wrong']:.2%}"
        )
    for name, ratio in ratios.items():
        print(f"{name.replace('_', ' ')}: {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
