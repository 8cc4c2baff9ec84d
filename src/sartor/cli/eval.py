"""Evaluate and compare any models on the same rows, with intervals; the first is the baseline."""

from __future__ import annotations

import click

from sartor.cli._output import json_option, show


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--data", metavar="FILE", required=True, help="Rows with answers: a file, folder, glob, or builtin:demo.")
@click.option("--metrics", metavar="A,B", help="Names of metrics, or file.py:function; by default those of the task.")
@click.option(
    "--shots",
    metavar="K",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="Take K rows out of the data and show them before each question.",
)
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Rows measured at most, a fixed sample.",
)
@click.option(
    "--max-new-tokens",
    metavar="N",
    type=click.IntRange(1, 1 << 20),
    help="Longest answer; by default 1.5 times the longest reference.",
)
@click.option(
    "--batch", metavar="N", type=click.IntRange(1, 4096), default=32, show_default=True, help="Rows answered together."
)
@click.option(
    "--confidence",
    metavar="P",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Level of the intervals.",
)
@json_option
def command(
    models: tuple[str, ...],
    data: str,
    metrics: str | None,
    shots: int,
    rows: int,
    max_new_tokens: int | None,
    batch: int,
    confidence: float,
    as_json: bool,
) -> int:
    """Measure every MODEL on the same rows and compare each with the first.

    A MODEL is a run folder, a Hugging Face model folder, an adapter folder, a hub id, or sartor/nano. Nothing is written.

    \b
    Example:
      sartor eval sartor/nano runs/latest --data test.jsonl
      sartor eval models/a models/b --data test.jsonl --metrics exact_match,field_f1 --shots 3 --json
    """
    from sartor.console import display
    from sartor.flow.eval import evaluate

    names = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    with display() as screen:
        result = evaluate(
            models,
            data,
            metrics=names,
            shots=shots,
            rows=rows,
            max_new_tokens=max_new_tokens,
            batch=batch,
            confidence=confidence,
            emit=screen.see,
        )
    return show(result, as_json)
