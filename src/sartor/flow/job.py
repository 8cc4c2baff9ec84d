"""A folder that belongs to one job, so that what was measured for another one is never taken for its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sartor.data.answers import FILE as ANSWERS
from sartor.errors import InputError, Problem, RunError
from sartor.store.atomic import coded, make_folder, remove

FILE = "job.json"
BEGUN = ".begun"
"""There from the first moment on, so that an interrupted job is known again."""


@contextmanager
def begun(folder: Path) -> Iterator[None]:
    """Make `folder`, or go on in it; where the input is refused within, a new one goes again,
    unless models have answered already.

    Raises RunError F102 where it holds something else, a run perhaps, and SartorError F131 where it cannot be made.
    """
    new = not folder.is_dir() or not any(folder.iterdir())
    if not new and not (folder / BEGUN).exists():
        what = "this folder holds something else"
        raise RunError(Problem("F102", what, file=str(folder), fix="give --out a folder that is not there yet"))
    make_folder(folder)
    with coded(folder):
        (folder / BEGUN).touch()
    try:
        yield
    except InputError:
        if new and not any(folder.rglob(ANSWERS)):
            remove(folder)
        raise


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
