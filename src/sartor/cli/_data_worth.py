"""What data is worth: value, curve."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command("value")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the losses and the result.")
@click.option(
    "--folds",
    type=click.IntRange(2, 20),
    default=2,
    show_default=True,
    help="Models, each without one part of the rows.",
)
@click.option("--epochs", type=click.IntRange(1), default=3, show_default=True, help="Epochs of each model.")
@json_option
def value(recipe: Path, overrides: tuple[str, ...], out: Path, folds: int, epochs: int, as_json: bool) -> int:
    """Rank training rows: likely mislabels, unlearnable, memorised and redundant ones.

    Trains a model for every part of the training rows without it, and compares the losses on rows seen and unseen. The same
    command goes on where it was stopped.

    \b
    Example:
      sartor data value recipe.yaml --out worth
      sartor data value recipe.yaml --out worth --folds 4 train.threads=1
    """
    from sartor.console import display
    from sartor.flow.value import value as run_value

    with display() as screen:
        result = run_value(recipe, out, overrides, screen.see, count=folds, epochs=epochs)
    return show(result, as_json)


@click.command("curve")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for the models' answers and the result."
)
@click.option(
    "--sizes", default="0.125,0.25,0.5,1", show_default=True, help="Shares of the training rows, with commas."
)
@click.option("--seeds", type=click.IntRange(1, 20), default=2, show_default=True, help="Models of each size.")
@click.option("--metric", help="What to follow; the recipe's first metric by default.")
@json_option
def curve(
    recipe: Path, overrides: tuple[str, ...], out: Path, sizes: str, seeds: int, metric: str | None, as_json: bool
) -> int:
    """Train on growing parts of the rows and say what twice the data would bring, with an interval.

    Measured on the validation rows; the test rows stay locked. The same command goes on where it was stopped.

    \b
    Example:
      sartor data curve recipe.yaml --out curve
      sartor data curve recipe.yaml --out curve --sizes 0.1,0.3,1 --seeds 3 --metric accuracy
    """
    from sartor.console import display
    from sartor.flow.learning_curve import learning_curve

    try:
        shares = [float(size) for size in sizes.split(",")]
    except ValueError as fault:
        raise click.BadParameter(f"{sizes!r} is not a list of numbers like 0.25,0.5,1", param_hint="--sizes") from fault
    with display() as screen:
        result = learning_curve(recipe, out, overrides, screen.see, sizes=shares, seeds=seeds, metric=metric)
    return show(result, as_json)
