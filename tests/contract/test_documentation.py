"""What the documentation and the help texts tell to type is what the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from sartor.cli.main import sartor

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
LINE = re.compile(r"^ *(?:\$ )?(?:torchrun [^\n]*? -m )?sartor ([^\n]*)$", re.MULTILINE)
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """(name, command) of everything below a group."""
    context = click.Context(group)
    for word in group.list_commands(context):
        found = group.get_command(context, word)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, f"{name} {word}")
        yield f"{name} {word}", found


def lines() -> list[tuple[str, str]]:
    """(page or command, what follows `sartor`) of every line of a code block or an example that begins with it."""
    texts = [
        (str(page.relative_to(ROOT)), block)
        for page in PAGES
        for block in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]
    texts += [(name, found.help or "") for name, found in commands(sartor, "sartor")]
    return [(where, line) for where, text in texts for line in LINE.findall(text)]


@pytest.mark.parametrize(("where", "line"), lines())
def test_every_command_line_is_understood(where: str, line: str) -> None:
    words = shlex.split(re.sub(r"\s{3,}.*$|\s>>?\s.*$", "", line), comments=True)
    step: click.Command = sartor
    context = click.Context(sartor)
    while isinstance(step, click.Group):
        name, step, words = step.resolve_command(context, words)  # type: ignore[assignment]
        context = click.Context(step, info_name=name, parent=context)
    with suppress(click.exceptions.Exit):  # of options such as --schema, which print and end
        step.make_context(context.info_name, words, parent=context.parent)


def test_every_command_has_an_example() -> None:
    assert [name for name, found in commands(sartor, "sartor") if "sartor " not in (found.help or "")] == []


def test_there_are_command_lines() -> None:
    assert len(lines()) > 100
