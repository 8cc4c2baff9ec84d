"""datasets + datasketch on the job: read, drop exact and near copies, divide so that copies cannot straddle, write.

python -m _data.with_datasets FOLDER

The recipe that tutorials of both libraries show: MinHash of word shingles, an LSH index, and of rows that meet in it and are as
alike as asked the first stays. Shingles are those of Sartor (words and pairs of neighbouring words), so both do the same work.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from datasets import load_dataset
from datasketch import MinHash, MinHashLSH

PERMUTATIONS = 128
THRESHOLD = 0.8


def shingles(row: dict[str, str]) -> list[bytes]:
    """Words and pairs of neighbouring words of what is asked and answered."""
    words = f"{row['prompt']}\n{row['completion']}".lower().split()
    return [word.encode() for word in {*words, *(" ".join(pair) for pair in pairwise(words))}]


def main() -> None:
    """Do the job and print what it cost."""
    folder = Path(sys.argv[1])
    began, worked = time.perf_counter(), time.process_time()
    rows = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train", cache_dir=str(folder / "cache"))
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    kept, sets = [], []
    for number, row in enumerate(rows):
        entries = shingles(row)
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch(entries)
        mine = set(entries)
        if any(len(mine & sets[other]) >= THRESHOLD * len(mine | sets[other]) for other in index.query(signature)):
            sets.append(mine)
            continue
        index.insert(number, signature)
        sets.append(mine)
        kept.append(number)
    left = rows.select(kept)
    parts = left.train_test_split(test_size=0.2, seed=7)
    held_out = parts["test"].train_test_split(test_size=0.5, seed=7)
    for name, part in (("train", parts["train"]), ("validation", held_out["train"]), ("test", held_out["test"])):
        part.to_json(str(folder / f"{name}.jsonl"))
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - worked,
                "peak_bytes": getrusage(RUSAGE_SELF).ru_maxrss << 10,
                "kept": sorted(kept),
            }
        )
    )


if __name__ == "__main__":
    main()
