"""States of the data: snapshot, diff, export."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command("snapshot")
@click.argument("target", metavar="RUN_OR_RECIPE_OR_FILE")
@click.option(
    "--store", default="snapshots", show_default=True, type=click.Path(path_type=Path), help="Folder of snapshots."
)
@json_option
def snapshot(target: str, store: Path, as_json: bool) -> int:
    """Keep the rows, their parts and what decided them, in a folder named by the content.

    \b
    Example:
      sartor data snapshot recipe.yaml
      sartor data snapshot runs/2026-01-31_tickets_0a1b2c3d --store /data/snapshots
    """
    from sartor.console import display
    from sartor.flow.data_versions import snapshot as take

    with display() as screen:
        result = take(target, store, screen.see)
    return show(result, as_json)


@click.command("diff")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@json_option
def diff(old: str, new: str, as_json: bool) -> int:
    """Compare the rows of two runs, snapshots, recipes or files: added, removed, changed, moved to another part.

    \b
    Example:
      sartor data diff tickets.jsonl tickets-new.jsonl
      sartor data diff snapshots/0a1b2c3d4e5f recipe.yaml --json
    """
    from sartor.console import display
    from sartor.flow.data_versions import diff as compare

    with display() as screen:
        result = compare(old, new, screen.see)
    return show(result, as_json)


@click.command("export")
@click.argument("target", metavar="RUN_OR_RECIPE_OR_FILE")
@click.option("--as", "form", type=click.Choice(["jsonl", "parquet", "hub", "openai"]), default="jsonl", show_default=True,
              help="Form of the files.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the files; it must not exist.")
@json_option
def export(target: str, form: str, out: Path, as_json: bool) -> int:
    """Write the parts as files that other tools read: JSON lines, Parquet, a Hugging Face data set, OpenAI's fine-tuning.

    \b
    Example:
      sartor data export recipe.yaml --as hub --out tickets-dataset
      sartor data export tickets.jsonl --as openai --out openai
    """
    from sartor.console import display
    from sartor.flow.data_release import release

    with display() as screen:
        result = release(target, form, out, screen.see)
    return show(result, as_json)
