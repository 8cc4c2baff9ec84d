"""Print the script that completes commands and options in a shell"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from sartor.cli._output import json_option, show


@dataclass(frozen=True, slots=True)
class Script:
    """A completion script."""

    shell: str
    text: str

    def json(self) -> dict[str, Any]:
        """The script and its shell."""
        return {"shell": self.shell, "script": self.text}

    def render(self, console: Any) -> None:
        """The script alone."""
        click.echo(self.text)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def command(shell: str, as_json: bool) -> int:
    """Print the script that completes commands and options in a shell.

    \b
    Example:
      sartor completion bash >> ~/.bashrc
      sartor completion zsh >> ~/.zshrc
      sartor completion fish > ~/.config/fish/completions/sartor.fish
    """
    from click.shell_completion import get_completion_class

    from sartor.cli.main import sartor

    kind = get_completion_class(shell)
    assert kind is not None
    return show(Script(shell, kind(sartor, {}, "sartor", "_SARTOR_COMPLETE").source()), as_json)
