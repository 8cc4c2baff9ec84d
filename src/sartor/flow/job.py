"""A folder that belongs to one job, so that what was measured for another one is never taken for its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sartor.errors import Problem, RunError

FILE = "job.json"


def claim(folder: Path, job: Mapping[str, Any]) -> None:
    """Write down what `folder` is for. Raises RunError F102 where it holds the work of another job."""
    file = folder / FILE
    if not file.exists():
        file.write_text(json.dumps(job), encoding="utf-8")
        return
    known = json.loads(file.read_text(encoding="utf-8"))
    if known != json.loads(json.dumps(job)):
        changed = ", ".join(sorted(key for key in job if known.get(key) != job[key]))
        what = f"this folder holds the work of another job ({changed} differ)"
        raise RunError(Problem("F102", what, file=str(folder), fix="another --out"))
