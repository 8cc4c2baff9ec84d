"""Resolve every value with its reason, audit data and masks, predict memory and time; write nothing."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, overrides, show


def _print_schema(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from sartor.recipe.editor import json_schema_text

        click.echo(json_schema_text(), nl=False)
        ctx.exit()


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@overrides
@click.option("--why", metavar="KEY", help="Why one value is what it is, e.g. train.optimizer.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON schema of recipes, for editors, and stop.",
)
@json_option
def command(recipe: Path, overrides: tuple[str, ...], why: str | None, as_json: bool) -> int:
    """Resolve every value with its reason, audit data and masks, predict memory and time. Writes nothing.

    \b
    Example:
      sartor check recipe.yaml
      sartor check recipe.yaml train.epochs=2 --why train.optimizer
      sartor check --schema > recipe.schema.json
    """
    from sartor.console import display
    from sartor.flow.check import check

    with display() as screen:
        result = check(recipe, overrides, screen.see)
    return show(result.why(why) if why else result, as_json)
