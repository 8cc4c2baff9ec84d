"""Markdown that no text of a user can break out of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sartor.console import printable

SPECIAL = re.compile(r"([\\`*{}\[\]<>#|~$&]|(?<!\w)_|_(?!\w))")
"""What Markdown would read as its own; an underscore inside a word is left alone by it."""
LONGEST = 400
"""Characters of a user's text in one place."""


def text(value: object) -> str:
    """The value on one line as plain Markdown text: special characters escaped, control characters shown, long text cut."""
    line = one_line(value)
    line = line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
    return SPECIAL.sub(r"\\\1", line)


def one_line(value: object) -> str:
    """The value without line ends, control characters shown."""
    return " ".join(printable(str(value)).split())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    return "\n".join([_row(head), "|---" * len(head) + "|", *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
