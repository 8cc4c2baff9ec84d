"""Say which arm of a test between served models is better: winner, none yet, or stop."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from sartor.cli._output import json_option, show


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--metric",
    type=click.Choice(["thumb", "score", "seconds", "ended", "error_rate"]),
    default="thumb",
    show_default=True,
    help="What decides: thumbs up, mean score, seconds, answers that ended by themselves, errors.",
)
@click.option("--test", metavar="NAME", help="Name of the test (--ab-name).  [the latest]")
@click.option(
    "--unit",
    type=click.Choice(["user", "request"]),
    default="user",
    show_default=True,
    help="Count each user's first answer, or each answer as if independent.",
)
@click.option(
    "--level",
    metavar="P",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Chance that all intervals hold at all times.",
)
@click.option(
    "--margin",
    metavar="D",
    type=click.FloatRange(0),
    help="Smallest difference that matters.  [0.05; error_rate 0.02; 0.1 s]",
)
@json_option
def command(
    folder: Path,
    metric: str,
    test: str | None,
    unit: Literal["user", "request"],
    level: float,
    margin: float | None,
    as_json: bool,
) -> int:
    """Say how a test stands. DIR is the log of `sartor serve --log DIR --ab A=50,B=50`.

    Intervals hold at every moment at once: ask as often as you like, and stop when there is a winner.

    \b
    Example:
      sartor ab requests
      sartor ab requests --metric seconds --json
    """
    from sartor.flow.ab import standing

    return show(standing(folder, test, metric, unit, level=level, margin=margin), as_json)
