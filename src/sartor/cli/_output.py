"""What every command shares: `--json`, and printing a result in the asked form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


class Result(Protocol):
    """What a flow returns. A result whose `exit_code` can be other than 0 has that attribute as well."""

    def json(self) -> dict[str, Any]:
        """One JSON object with everything the command found."""
        ...

    def render(self, console: Any) -> None:
        """Print it for people on a `rich.console.Console`."""
        ...


def json_option(function: Function) -> Function:
    """Adds `--json`, passed to the command as `as_json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there."
    )(function)


def overrides(function: Function) -> Function:
    """Takes `key=value ...` after the recipe, passed to the command as `overrides`."""
    return click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")(function)


def max_new_tokens(function: Function) -> Function:
    """Adds `--max-new-tokens`."""
    return click.option(
        "--max-new-tokens",
        metavar="N",
        type=click.IntRange(1, 1 << 20),
        default=256,
        show_default=True,
        help="Longest answer.",
    )(function)


def show(result: Result, as_json: bool) -> int:
    """Print the result and return the exit code, which the command returns in turn."""
    if as_json:
        click.echo(json.dumps(result.json(), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        from sartor.console import terminal

        result.render(terminal(sys.stdout))
    return int(getattr(result, "exit_code", 0))
