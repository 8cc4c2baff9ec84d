"""Guidelines for annotators: a Markdown file, shown beside the rows as plain text in blocks, never as HTML.

# What the customer wants
## Labels
- refund: wants money back
- `complaint`: is angry, wants nothing in particular
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["heading", "paragraph", "item", "code"]
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(.*)$")
_MARKS = re.compile(r"(\*\*|__|`)(.+?)\1")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the guidelines."""

    kind: Kind
    text: str
    level: int = 0
    """Of a heading, 1 to 6."""


def blocks(markdown: str) -> list[Block]:
    """The text in blocks; the marks of bold and code are left out, anything else stays as it was written."""
    return list(_joined(_lines(markdown)))


def labels(markdown: str) -> list[str]:
    """The names listed under a heading "Labels", each before its colon; none where there is no such heading."""
    found: list[str] = []
    level = 0
    for block in blocks(markdown):
        if block.kind == "heading":
            if block.text.strip(": ").lower() == "labels":
                level = block.level
            elif level and block.level <= level:
                level = 0
        elif level and block.kind == "item":
            found.append(block.text.partition(":")[0].strip(' *`"'))
    return list(dict.fromkeys(name for name in found if name))


def _lines(markdown: str) -> Iterator[Block | None]:
    """Each line as a block of its own, None between paragraphs."""
    fenced = False
    for line in markdown.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
            yield None
        elif fenced:
            yield Block("code", line)
        elif heading := _HEADING.match(line):
            yield Block("heading", _plain(heading[2]), len(heading[1]))
        elif item := _ITEM.match(line):
            yield Block("item", _plain(item[1]))
        else:
            yield Block("paragraph", _plain(line.strip())) if line.strip() else None


def _joined(lines: Iterator[Block | None]) -> Iterator[Block]:
    """Lines of one paragraph or item as one block."""
    held: Block | None = None
    for line in lines:
        if line is not None and held is not None and _continues(held, line):
            held = Block(held.kind, held.text + ("\n" if held.kind == "code" else " ") + line.text)
            continue
        if held is not None:
            yield held
        held = line
    if held is not None:
        yield held


def _continues(held: Block, line: Block) -> bool:
    return (line.kind == "paragraph" and held.kind in ("paragraph", "item")) or (held.kind == line.kind == "code")


def _plain(text: str) -> str:
    return _MARKS.sub(r"\2", text)
