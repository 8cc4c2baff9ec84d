"""Clean data and take it back: clean, restore, accept, unredact."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command("clean")
@click.argument("targets", nargs=-1, required=True, metavar="FILE_OR_RECIPE...")
@click.option(
    "--stages",
    metavar="LIST",
    help="Stages in their order, each with its main option or all: unicode,duplicates=0.9,redact={what: [email]}.",
)
@click.option("--out", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder for the result.")
@json_option
def clean(targets: tuple[str, ...], stages: str | None, out: Path, as_json: bool) -> int:
    """Clean files, or the data of a recipe, and write down every decision.

    Without --stages those of the recipe, or else a careful choice. The files themselves are left as they are.

    \b
    Example:
      sartor data clean support.jsonl --out clean
      sartor data clean support.jsonl --stages unicode,whitespace,duplicates=0.9,language=[en,de] --out clean
    """
    from sartor.console import display
    from sartor.flow.data_clean import data_clean

    with display() as screen:
        result = data_clean(targets, stages=stages, out=out, emit=screen.see)
    return show(result, as_json)


@click.command("restore")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--stage", metavar="STAGE", help="What this stage did.")
@click.option("--row", "rows", metavar="FILE:LINE", multiple=True, help="What was done to this row; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Everything: the rows as they were read.")
@json_option
def restore(folder: Path, stage: str | None, rows: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Put rows back and undo changes of `sartor data clean`.

    \b
    Example:
      sartor data restore clean --stage outliers
      sartor data restore clean --row support.jsonl:17
    """
    if everything == bool(stage or rows):
        raise click.UsageError("give --all, or one or both of --stage and --row")
    from sartor.console import display
    from sartor.flow.data_clean import data_restore

    with display() as screen:
        result = data_restore(folder, stage=stage, rows=rows, emit=screen.see)
    return show(result, as_json)


@click.command("accept")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--stage", required=True, metavar="STAGE", help="What this stage suggested.")
@click.option("--row", "rows", metavar="FILE:LINE", multiple=True, help="For this row only; may be repeated.")
@json_option
def accept(folder: Path, stage: str, rows: tuple[str, ...], as_json: bool) -> int:
    """Do what a stage of `sartor data clean` suggested.

    \b
    Example:
      sartor data accept clean --stage labels
    """
    from sartor.console import display
    from sartor.flow.data_clean import data_accept

    with display() as screen:
        result = data_accept(folder, stage=stage, rows=rows, emit=screen.see)
    return show(result, as_json)


@click.command("unredact")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The key_file of redact.")
@click.option("--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="File for the result.")
@json_option
def unredact(file: Path, key: Path, out: Path, as_json: bool) -> int:
    """Put the values back that the stage redact took out, into rows, predictions or any other text.

    \b
    Example:
      sartor data unredact predictions.jsonl --key keys.json --out named.jsonl
    """
    from sartor.flow.data_unredact import data_unredact

    return show(data_unredact(file, key, out), as_json)
