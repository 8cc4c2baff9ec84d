"""Sartor on the job: read, audit with every check, drop exact and near copies, divide by clusters, write.

python -m _data.ours FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

from sartor.data.pipeline import prepare
from sartor.recipe.schema import Data

THRESHOLD = 0.8


def cpu() -> float:
    """Seconds of processor time, of this process and of those that have ended under it."""
    return sum(used.ru_utime + used.ru_stime for used in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))


def main() -> None:
    """Do the job and print what it cost."""
    folder = Path(sys.argv[1])
    stage = {"duplicates": {"similarity": THRESHOLD}}
    began, worked = time.perf_counter(), cpu()
    data = Data.model_validate({"sources": [{"path": "rows.jsonl"}], "clean": [stage]})
    prepared = prepare(data, root=folder, folder=folder / "data", emit=lambda event: None)
    seconds = time.perf_counter() - began
    kept = sorted((prepared.dataset.index.line - 1).tolist())
    peak = max(getrusage(who).ru_maxrss for who in (RUSAGE_SELF, RUSAGE_CHILDREN)) << 10
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu() - worked, "peak_bytes": peak, "kept": kept}))


if __name__ == "__main__":
    main()
