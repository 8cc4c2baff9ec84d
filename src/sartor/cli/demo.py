"""The whole path on the embedded model and data: no network, a minute or two on two cores."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command()
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for recipe, data and run.",
)
@json_option
def command(out: Path, as_json: bool) -> int:
    """Tune the embedded model on the embedded data and compare it with its base. No network.

    Writes recipe.yaml and tickets.jsonl into the folder and runs them; the same command again resumes, or shows the result.

    \b
    Example:
      sartor demo
      sartor demo --out /tmp/demo --json
    """
    from sartor.console import display
    from sartor.flow.demo import demo

    with display() as screen:
        result = demo(out, screen.see)
    return show(result, as_json)
