"""Outcomes on disk: JSON lines that a resumed run reads instead of asking the model again.

{"id": "t006", "prompt": "...", "prediction": "...", "reference": "...", "nll": 3.2, "tokens": 31, ...}
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sartor.protocols import Outcome
from sartor.store import atomic

PART = ".part"
_NAMES = tuple(field.name for field in fields(Outcome))
_TUPLES = tuple(field.name for field in fields(Outcome) if isinstance(field.default, tuple))


def to_line(outcome: Outcome) -> str:
    """One line of JSON without line end; numbers that are not finite become null."""
    body = {key: value for key, value in asdict(outcome).items() if value not in (None, {}, ())}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str)


def from_line(text: str) -> Outcome:
    """The inverse of `to_line`."""
    body: dict[str, Any] = json.loads(text)
    found: dict[str, Any] = {name: body[name] for name in _NAMES if name in body}
    return Outcome(**found | {name: tuple(found[name]) for name in _TUPLES if name in found})


def read_outcomes(path: Path) -> list[Outcome]:
    """All outcomes of a file."""
    with path.open(encoding="utf-8") as file:
        return [from_line(line) for line in file]


def collect(path: Path, indices: Sequence[int], measure: Callable[[Sequence[int]], Iterator[Outcome]]) -> list[Outcome]:
    """The outcomes of rows `indices`, kept in `path`: a finished file is read, an unfinished one is continued.

    `measure` gives the outcomes of the indices it is asked for, in their order. While it works the file is called
    `path` + ``.part``; a line that a kill has torn is measured again.
    """
    if path.exists():
        return read_outcomes(path)
    part = path.with_name(path.name + PART)
    atomic.make_folder(path.parent)
    with atomic.coded(path), part.open("ab+") as file:
        done = whole_lines(file.fileno())
        for outcome in measure(indices[done:]):
            file.write(to_line(outcome).encode() + b"\n")
            file.flush()
        os.fsync(file.fileno())
    atomic.rename(part, path)
    return read_outcomes(path)


def whole_lines(handle: int) -> int:
    """How many complete lines an open file has; what follows the last of them is cut off. The position is at its end."""
    size = os.lseek(handle, 0, os.SEEK_END)
    lines, end, at = 0, 0, 0
    while at < size:
        block = os.pread(handle, 1 << 20, at)
        lines += block.count(b"\n")
        last = block.rfind(b"\n")
        end = at + last + 1 if last >= 0 else end
        at += len(block)
    os.ftruncate(handle, end)
    os.lseek(handle, end, os.SEEK_SET)
    return lines
