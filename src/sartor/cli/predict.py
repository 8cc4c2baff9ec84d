"""Answer every row of a file; rows keep their columns and gain `prediction`."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, max_new_tokens, show


@click.command()
@click.argument("model")
@click.option(
    "--input", "source", metavar="FILE", type=click.Path(path_type=Path), required=True, help="Rows to answer."
)
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), required=True, help="JSON lines to write.")
@max_new_tokens
@click.option(
    "--batch",
    metavar="N",
    type=click.IntRange(1, 4096),
    default=32,
    show_default=True,
    help="Rows answered together, at most.",
)
@json_option
def command(model: str, source: Path, output: Path, max_new_tokens: int, batch: int, as_json: bool) -> int:
    """Answer every row of a file; each line of the output is the row with its `id` and a `prediction`.

    MODEL is a run folder, a Hugging Face model folder, an adapter folder, a hub id, or sartor/nano. The file may be of any
    form that training reads, with or without answers. The same command again answers only the rows that are missing.

    \b
    Example:
      sartor predict runs/latest --input new.jsonl --output answers.jsonl
      sartor predict sartor/nano --input questions.txt --output answers.jsonl --max-new-tokens 40
    """
    from sartor.console import display
    from sartor.flow.predict import predict

    with display() as screen:
        result = predict(model, source, output, max_new_tokens=max_new_tokens, batch=batch, emit=screen.see)
    return show(result, as_json)
