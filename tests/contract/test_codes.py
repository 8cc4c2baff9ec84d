"""Every code that a message can have is in docs/reference/codes.md, and every page of the documentation in its contents."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"(?<![A-Za-z0-9])[ADEFMNPRSTUVX]\d{3}(?![A-Za-z0-9])")
GRAPHICS_CARDS = {"A100"}
SHARED = {"D113", "M104"}
"""Codes of several rooms with one meaning: a file that is not there, weights that are not there."""
WIRING = {"flow", "cli"}


def used() -> dict[str, set[str]]:
    """Code -> the rooms with a string that is this code."""
    found = defaultdict(set)
    source = ROOT / "src" / "sartor"
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                found[node.value].add(path.relative_to(source).parts[0])
    return {code: rooms for code, rooms in found.items() if code not in GRAPHICS_CARDS}


def documented() -> set[str]:
    """The codes of the first column of each table; `D101 to D108` is all of them."""
    found = set()
    for line in (ROOT / "docs" / "reference" / "codes.md").read_text(encoding="utf-8").splitlines():
        cell = line.split("|")[1] if line.startswith("|") else ""
        for first, last in re.findall(r"([A-Z]\d{3}) to ([A-Z]\d{3})", cell):
            found |= {f"{first[0]}{number}" for number in range(int(first[1:]), int(last[1:]) + 1)}
        found |= set(CODE.findall(cell))
    return found


def test_every_code_is_documented() -> None:
    assert sorted(used().keys() - documented()) == []


def test_a_code_is_used_where_it_is_documented_alone() -> None:
    """Ranges may hold numbers that nobody uses; single codes may not."""
    page = (ROOT / "docs" / "reference" / "codes.md").read_text(encoding="utf-8")
    single = {code for line in page.splitlines() if line.startswith("|") for code in CODE.findall(line.split("|")[1])}
    assert sorted(single - used().keys()) == []


def test_a_code_belongs_to_one_room() -> None:
    """The same number in two rooms has two meanings sooner or later. Rooms that wire others together may repeat theirs."""
    assert sorted(code for code, rooms in used().items() if len(rooms - WIRING) > 1 and code not in SHARED) == []


def test_every_page_is_in_the_contents() -> None:
    docs = ROOT / "docs"
    contents = (docs / "README.md").read_text(encoding="utf-8")
    pages = {str(page.relative_to(docs)) for page in docs.glob("*/*.md")}
    assert sorted(page for page in pages if f"]({page})" not in contents) == []


def test_no_link_of_the_documentation_leads_nowhere() -> None:
    pages = [*(ROOT / "docs").glob("**/*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    lost = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert lost == []
