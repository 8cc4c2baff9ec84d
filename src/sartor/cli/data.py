"""Look into data, clean and label it: check, show, clean, restore, label, rank, agreement."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli import _data_augment, _data_clean, _data_versions, _data_worth
from sartor.cli._annotate import COMMANDS as ANNOTATE
from sartor.cli._output import json_option, show


@click.group()
def command() -> None:
    """Look into data before training on it.

    \b
    Example:
      sartor data check support.jsonl
      sartor data show recipe.yaml --rows 3
    """


command.add_command(_data_augment.augment)
for each in (_data_clean.clean, _data_clean.restore, _data_clean.accept, _data_clean.unredact):
    command.add_command(each)
for each in (_data_worth.value, _data_worth.curve):
    command.add_command(each)
for each in (_data_versions.snapshot, _data_versions.diff, _data_versions.export):
    command.add_command(each)


@command.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="FILE_OR_RECIPE...")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Also write a report, one HTML file.")
@click.option("--against", metavar="FILE", multiple=True, help="Questions that will be measured on; may be repeated.")
@click.option("--difficulty", is_flag=True, help="Measure how much prompts help the recipe's base model.")
@json_option
def check(
    targets: tuple[str, ...], html: Path | None, against: tuple[str, ...], difficulty: bool, as_json: bool
) -> int:
    """Read, recognise and audit files, folders, or the data of a recipe. Exit code 2: a run would be refused.

    \b
    Example:
      sartor data check support.jsonl
      sartor data check recipe.yaml --html report.html
      sartor data check support.jsonl --against benchmark.jsonl
      sartor data check recipe.yaml --json
    """
    from sartor.console import display
    from sartor.errors import DataError, raise_errors
    from sartor.flow.data_check import data_check

    with display() as screen:
        result = data_check(targets, screen.see, against=against, html=html, difficulty=difficulty)
    code = show(result, as_json)
    if not as_json:
        raise_errors(DataError, result.errors)
    return code


@command.command("show")
@click.argument("target", metavar="RECIPE_OR_FILE")
@click.option("--rows", type=click.IntRange(min=1), default=3, show_default=True, help="How many rows.")
@click.option("--row", type=click.IntRange(min=0), help="This row only, counted from 0.")
@click.option("--split", "part", type=click.Choice(["train", "validation", "test"]), help="Rows of this part only.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="Write a page with colours instead.")
@json_option
def show_rows(target: str, rows: int, row: int | None, part: str | None, html: Path | None, as_json: bool) -> int:
    """Print rows as the model sees them, the tokens that are learnt in colour.

    \b
    Example:
      sartor data show recipe.yaml --rows 3
      sartor data show support.jsonl --row 17 --html row.html
    """
    from sartor.console import display
    from sartor.flow.data_show import data_show

    with display() as screen:
        result = data_show(target, rows=rows, row=row, split=part, html=html, emit=screen.see)
    return show(result, as_json)


for each in ANNOTATE:
    command.add_command(each)
