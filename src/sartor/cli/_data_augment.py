"""Make training rows: augment."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command("augment")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the rows and what they take.")
@click.option(
    "--show", "shown", type=click.IntRange(0, 5), default=3, show_default=True, help="Pairs shown of each way."
)
@click.option("--measure", is_flag=True, help="Train with and without the rows, and say whether they help.")
@click.option(
    "--seeds", type=click.IntRange(1, 20), default=1, show_default=True, help="Models of each kind to measure."
)
@json_option
def augment(
    recipe: Path, overrides: tuple[str, ...], out: Path, shown: int, measure: bool, seeds: int, as_json: bool
) -> int:
    """Make the rows of data.augment, write them with their parents, and show what was changed.

    A run makes the same rows by itself; this command is to look at them first. Held-out rows are never touched.

    \b
    Example:
      sartor data augment recipe.yaml --out made
      sartor data augment recipe.yaml --out made data.augment='[{synonyms: {rate: 0.2, copies: 2}}]'
      sartor data augment recipe.yaml --out made --measure --seeds 3
    """
    from sartor.console import display
    from sartor.flow.data_augment import data_augment

    with display() as screen:
        result = data_augment(recipe, out, overrides, screen.see, show=shown, measure=measure, seeds=seeds)
    return show(result, as_json)
