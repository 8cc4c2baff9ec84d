"""Puts the values back that the stage redact took out of a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.data.masks import read_keys, unredacted_lines
from sartor.data.opening import unreadable
from sartor.data.personal import PLACEHOLDER
from sartor.errors import DataError, Problem
from sartor.store.atomic import coded

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class DataUnredacted:
    """What was put back, and where it lies."""

    out: Path
    lines: int
    restored: int
    """Placeholders whose value is known."""
    unknown: int
    """Placeholders that the key file does not know; they stay."""

    def json(self) -> dict[str, Any]:
        """``{"out", "lines", "restored", "unknown"}``."""
        return {"out": str(self.out), "lines": self.lines, "restored": self.restored, "unknown": self.unknown}

    def render(self, console: Console) -> None:
        """Print the counts."""
        unknown = f", {self.unknown:,} are not in the key file and stay" if self.unknown else ""
        console.print(
            f" {self.restored:,} values put back in {self.lines:,} lines{unknown}: {self.out}", soft_wrap=True
        )


def data_unredact(file: Path, key: Path, out: Path) -> DataUnredacted:
    """Write `file` to `out`, readable by its owner alone, with every known placeholder replaced.

    Raises DataError for what cannot be read and D187 where `out` is one of the two files, SartorError F131 for what cannot
    be written.
    """
    values = read_keys(key).values
    if out.exists() and (out.samefile(key) or (file.exists() and out.samefile(file))):
        raise DataError(
            Problem("D187", "this file is read here; it is not overwritten", file=str(out), fix="another --out")
        )
    lines = restored = unknown = 0
    temporary = out.with_name(f".tmp-{out.name}")
    try:
        with file.open(encoding="utf-8", newline="") as read:
            with coded(out):
                temporary.unlink(missing_ok=True)
                number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="utf-8", newline="") as written:
                for line in read:
                    found = PLACEHOLDER.findall(line)
                    known = sum(placeholder in values for placeholder in found)
                    lines, restored, unknown = lines + 1, restored + known, unknown + len(found) - known
                    written.writelines(unredacted_lines([line], values))
        with coded(out):
            os.replace(temporary, out)
    except (OSError, ValueError) as fault:
        temporary.unlink(missing_ok=True)
        raise DataError(unreadable(fault, str(file))) from fault
    return DataUnredacted(out, lines, restored, unknown)
