"""Draw a tuned model back towards its base: what is gained in the task, what is lost in general."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


def _alpha(context: click.Context, parameter: click.Parameter, value: str | None) -> float | str | None:
    if value is None or value == "best":
        return value
    try:
        alpha = float(value)
    except ValueError:
        alpha = -1.0
    if not 0 <= alpha <= 1:
        raise click.BadParameter("expected a number from 0 (base) to 1 (tuned), or best")
    return alpha


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(2, 1001),
    default=11,
    show_default=True,
    help="Models measured, base and tuned among them.",
)
@click.option(
    "--task", metavar="METRIC", help="Measured on validation rows; by default the first one of the run's gates."
)
@click.option(
    "--general", metavar="METRIC", default="bits_per_byte", show_default=True, help="Measured on the general rows."
)
@click.option(
    "--general-data", metavar="FILE", default="builtin:general-probe", show_default=True, help="Rows of other kinds."
)
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Validation rows used at most, a fixed sample.",
)
@click.option(
    "--drop-at-most",
    metavar="D",
    type=click.FloatRange(0),
    default=0.02,
    show_default=True,
    help="How much worse than the base's the general score may be, in its own unit.",
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="A page with the picture."
)
@click.option(
    "--write", callback=_alpha, metavar="ALPHA", help="Write this model (0 to 1), or the best one, into --out."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="A new folder.")
@json_option
def command(
    run: str,
    steps: int,
    task: str | None,
    general: str,
    general_data: str,
    rows: int,
    drop_at_most: float,
    html: Path | None,
    write: float | str | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Measure models between the base and the tuned model of a finished RUN, and say which one to take.

    With a number, --write writes that model and measures nothing. The test rows are not opened.

    \b
    Example:
      sartor interpolate runs/latest --html front.html
      sartor interpolate runs/latest --task exact_match --general exact_match --drop-at-most 0.05
      sartor interpolate runs/latest --write 0.6 --out models/milder
      sartor interpolate runs/latest --write best --out models/milder --json
    """
    from sartor.console import display
    from sartor.flow.interpolate import interpolate

    with display() as screen:
        result = interpolate(
            run,
            steps=steps,
            task=task,
            general=general,
            general_data=general_data,
            rows=rows,
            drop_at_most=drop_at_most,
            html=html,
            write=write if isinstance(write, float) else None,
            write_best=write == "best",
            out=out,
            emit=screen.see,
        )
    return show(result, as_json)
