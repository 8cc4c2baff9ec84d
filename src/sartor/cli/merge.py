"""Merge models into one: average, linear, slerp, task arithmetic, TIES, DARE; an adapter into its base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sartor.cli._output import json_option, show

if TYPE_CHECKING:
    from sartor.models.merging import How


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    if value is None:
        return None
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter("expected numbers with commas between them, e.g. 0.7,0.3") from None


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder.")
@click.option(
    "--how",
    type=click.Choice(["average", "linear", "slerp", "task", "ties", "dare"]),
    default="average",
    show_default=True,
    help="The rule. task, ties and dare add up differences to a base.",
)
@click.option("--weights", callback=_numbers, metavar="A,B", help="Weight of each model; all alike by default.")
@click.option("--base", metavar="MODEL", help="What the models were tuned from; of adapters it is known.")
@click.option(
    "--density", type=float, metavar="P", help="Share of a difference that ties and dare keep; 0.2 by default."
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Of what dare draws; 0 by default.")
@click.option("--last", type=click.IntRange(1), metavar="K", help="Take the last K checkpoints of one run.")
@click.option(
    "--as",
    "kind",
    type=click.Choice(["model", "adapter"]),
    default="model",
    show_default=True,
    help="What to write; adapters of one base and rank can stay adapters.",
)
@json_option
def command(
    models: tuple[str, ...],
    out: Path,
    how: How,
    weights: list[float] | None,
    base: str | None,
    density: float | None,
    seed: int | None,
    last: int | None,
    kind: Literal["model", "adapter"],
    as_json: bool,
) -> int:
    """Make one model of several, or of an adapter and its base.

    A MODEL is a run folder, a Hugging Face model folder, an adapter folder, a hub id, or sartor/nano.

    \b
    Example:
      sartor merge runs/latest --out merged
      sartor merge models/a models/b --how linear --weights 0.7,0.3 --out soup
      sartor merge runs/a runs/b --how ties --base sartor/nano --density 0.2 --out both
      sartor merge runs/latest --last 3 --out averaged --json
    """
    from sartor.console import display
    from sartor.flow.merge import merge

    with display() as screen:
        result = merge(
            models,
            out,
            how=how,
            shares=weights,
            base=base,
            density=density,
            seed=seed,
            last=last,
            as_adapter=kind == "adapter",
            emit=screen.see,
        )
    return show(result, as_json)
