"""Writes a request log from several threads and says on stdout which ids are acknowledged, until it is killed."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from sartor.monitor.log import RequestLog
from sartor.monitor.records import Record


def record(number: str, **changed: object) -> Record:
    """An answer."""
    usual = {
        "id": number, "time": time.time(), "route": "chat.completion", "model": "tiny", "arm": None, "ab": None, "user": None,
        "messages": ({"role": "user", "content": "Where is my lamp? " * 40},), "answers": ("It ships today.",),
        "ended": ("stop",), "prompt_tokens": 9, "made": 4, "seconds": 0.2,
    }  # fmt: skip
    return Record(**{**usual, **changed})  # type: ignore[arg-type]


def main(folder: Path, name: str, sync: float) -> None:
    log = RequestLog(folder, sync=sync, size=20_000)
    said = threading.Lock()

    def work(thread: int) -> None:
        number = 0
        while True:
            key = f"{name}-{thread}-{number}"
            log.append(record(key).json())
            with said:
                sys.stdout.write(key + "\n")
                sys.stdout.flush()
            number += 1

    for thread in range(3):
        threading.Thread(target=work, args=(thread,)).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
