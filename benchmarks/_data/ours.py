"""Sartor on the job: read, audit with every check, drop exact and near copies, divide by clusters, write.

python -m _data.ours FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from sartor.data.pipeline import prepare
from sartor.recipe.schema import Data

THRESHOLD = 0.8


def main() -> None:
    """Do the job and print what it cost."""
    folder = Path(sys.argv[1])
    stage = {"duplicates": {"similarity": THRESHOLD}}
    began = time.perf_counter()
    data = Data.model_validate({"sources": [{"path": "rows.jsonl"}], "clean": [stage]})
    prepared = prepare(data, root=folder, folder=folder / "data", emit=lambda event: None)
    seconds = time.perf_counter() - began
    kept = sorted((prepared.dataset.index.line - 1).tolist())
    print(json.dumps({"seconds": seconds, "peak_bytes": getrusage(RUSAGE_SELF).ru_maxrss << 10, "kept": kept}))


if __name__ == "__main__":
    main()
