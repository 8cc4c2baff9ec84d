"""Gathers rows with the same fault into one problem per file, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sartor.data.dataset import Dataset
from sartor.errors import Level, Problem

LISTED = 1000
"""Further lines kept for each problem; all are counted."""


@dataclass(slots=True)
class _Seen:
    line: int
    excerpt: str | None
    count: int = 1
    further: list[int] = field(default_factory=list)


class Sightings:
    """Rows seen, by file and by what was seen there."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._seen: dict[tuple[str, str], _Seen] = {}

    def add(self, row: int, what: str, excerpt: str | None = None) -> None:
        """Row number `row` of the data set shows `what`."""
        origin = self._dataset.origin(row)
        seen = self._seen.get((origin.file, what))
        if seen is None:
            self._seen[origin.file, what] = _Seen(origin.line, excerpt)
            return
        seen.count += 1
        if len(seen.further) < LISTED:
            seen.further.append(origin.line)

    def problems(self, code: str, level: Level, fix: str) -> Iterator[Problem]:
        """One problem for each file and each thing seen in it."""
        for (file, what), seen in self._seen.items():
            yield Problem(
                code,
                f"{what} ({seen.count:,} rows)" if seen.count > 1 else what,
                file=file,
                line=seen.line,
                excerpt=seen.excerpt,
                fix=fix,
                level=level,
                rows=tuple(seen.further),
            )


def further_lines(dataset: Dataset, rows: NDArray[np.integer], first: int) -> tuple[int, ...]:
    """Lines of `rows` in the file of row `first`, without that row itself; at most `LISTED`."""
    index = dataset.index
    same = rows[(index.file[rows] == index.file[first]) & (rows != first)]
    return tuple(int(line) for line in index.line[same[:LISTED]])


def percent(part: int, whole: int) -> str:
    """5.7 %"""
    return f"{100 * part / max(1, whole):.1f} %".replace(".0 %", " %")


def quoted(texts: Iterable[str], width: int = 40) -> str:
    """ "one" / "other", each cut to `width` characters."""
    return " / ".join(f'"{text if len(text) <= width else text[: width - 3] + "..."}"' for text in texts)
