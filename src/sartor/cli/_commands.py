"""Finds commands by their files and reads summaries without importing them, so that `--help` costs milliseconds."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
NOT_COMMANDS = ("__init__", "main")


def files() -> dict[str, Path]:
    """Command name -> its file; a package is a command as well."""
    found = {path.stem: path for path in HERE.glob("*.py")} | {
        path.parent.name: path for path in HERE.glob("*/__init__.py")
    }
    return {name: found[name] for name in sorted(found) if not name.startswith("_") and name not in NOT_COMMANDS}


def summary(path: Path) -> str:
    """The first line of the file's docstring, without its full stop."""
    with path.open(encoding="utf-8") as source:
        return source.readline().strip().strip('"').rstrip(".")


class Commands(click.Group):
    """A group whose commands are the files beside this one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, sorted."""
        return list(files())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the file of one command."""
        if cmd_name not in files():
            return None
        command: click.Command = importlib.import_module(f"sartor.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown name is answered with the nearest one."""
        name = args[0]
        if name not in files() and not name.startswith("-"):
            near = difflib.get_close_matches(name, files(), n=1, cutoff=0.5)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            ctx.fail(f'unknown command "{name}"{hint}')
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. When whoever reads our output has gone, that is exit 3, not click's 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(3) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the files' first lines."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(path)) for name, path in files().items()])
