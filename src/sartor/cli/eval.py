"""Evaluate and compare any models on the same rows, with intervals; the first is the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sartor.cli._output import json_option, show

if TYPE_CHECKING:
    from sartor.evaluate.compare import Test
    from sartor.evaluate.corrections import Correction


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
@click.option(
    "--slices", metavar="A,B", help="Parts of the rows that are told one by one: columns, length, topic, label."
)
@click.option("--suites", metavar="A,B", help="Safety measures and benchmarks without options: toxicity, bias ...")
@click.option(
    "--correction",
    type=click.Choice(["holm", "benjamini_hochberg", "none"]),
    default="holm",
    show_default=True,
    help="How chances allow for many metrics and models.",
)
@click.option(
    "--test",
    type=click.Choice(["bootstrap", "permutation"]),
    default="bootstrap",
    show_default=True,
    help="What gives the chance of a difference where rows are not right or wrong.",
)
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where answers are kept; by default below ~/.cache.",
)
@click.option("--no-cache", is_flag=True, help="Make every answer anew, and keep none.")
@click.option(
    "--report", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write the comparison as a page."
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
    slices: str | None,
    suites: str | None,
    correction: Correction,
    test: Test,
    cache: Path | None,
    no_cache: bool,
    report: Path | None,
    as_json: bool,
) -> int:
    """Measure every MODEL on the same rows and compare each with the first.

    A MODEL is a run folder, a Hugging Face model folder, an adapter folder, a hub id, or sartor/nano. Answers are kept in a cache,
    so that a further metric or model costs no generation of those that are there.

    \b
    Example:
      sartor eval sartor/nano runs/latest --data test.jsonl
      sartor eval models/a models/b --data test.jsonl --metrics exact_match,field_f1 --shots 3 --json
      sartor eval models/a models/b --data test.jsonl --slices queue,length --suites toxicity --report compared.html
    """
    from sartor.console import display
    from sartor.evaluate.answer_cache import home
    from sartor.flow.eval import evaluate

    if cache is not None and no_cache:
        raise click.UsageError("--cache and --no-cache do not go together")
    with display() as screen:
        result = evaluate(
            models,
            data,
            metrics=_listed(metrics),
            shots=shots,
            rows=rows,
            max_new_tokens=max_new_tokens,
            batch=batch,
            confidence=confidence,
            slices=_listed(slices),
            suites=_listed(suites),
            correction=correction,
            test=test,
            cache=None if no_cache else cache or home(),
            report=report,
            emit=screen.see,
        )
    return show(result, as_json)


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
