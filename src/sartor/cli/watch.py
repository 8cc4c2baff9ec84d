"""Watch requests for drift: alarms with a stated false-alarm rate, once or as a daemon."""

from __future__ import annotations

from pathlib import Path

import click

from sartor.cli._output import json_option, show


@click.command()
@click.argument("target", metavar="RUN_OR_LOGS")
@click.option("--reference", metavar="RUN|DATA", help="Compare with its rows.  [the first requests]")
@click.option("--first", metavar="N", type=click.IntRange(200), default=1000, show_default=True, help="Requests to compare with, without --reference.")  # fmt: skip
@click.option("--since", metavar="TIME", help="Leave out earlier requests: 2026-11-22 or 2026-11-22T08:30, UTC.")
@click.option("--model", metavar="NAME", help="Requests that this model has answered alone.")
@click.option(
    "--map", "maps", metavar="OURS=THEIRS", multiple=True, help="A column of a foreign JSONL: prompt=question."
)
@click.option("--alpha", metavar="P", type=click.FloatRange(0, 0.5, min_open=True), default=0.01, show_default=True, help="Chance that a stable stream ever raises any alarm.")  # fmt: skip
@click.option("--follow", "following", is_flag=True, help="Go on looking, and remember where it stands.")
@click.option("--every", metavar="S", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between two looks.")  # fmt: skip
@click.option("--state", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Where it remembers.  [beside the requests, with --follow]")  # fmt: skip
@click.option("--alert", "alerts", metavar="WAY", multiple=True, help="file:PATH, webhook:URL or command:CMD; may be repeated.")  # fmt: skip
@click.option("--report", metavar="FILE.html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page.")
@json_option
def command(
    target: str,
    reference: str | None,
    first: int,
    since: str | None,
    model: str | None,
    maps: tuple[str, ...],
    alpha: float,
    following: bool,
    every: float,
    state: Path | None,
    alerts: tuple[str, ...],
    report: Path | None,
    as_json: bool,
) -> int:
    """Tell whether requests and answers are still what they were: lengths, words, languages, refusals, JSON, labels, times, errors, feedback.

    RUN_OR_LOGS is the folder of sartor serve --log, a JSONL file, or a run with a folder `requests`. Each alarm says what moved,
    since when, and shows the rows that moved most. The exit code is 1 while alarms stand.

    \b
    Example:
      sartor watch requests --reference runs/latest
      sartor watch calls.jsonl --map prompt=question --map answer=output --report drift.html
      sartor watch requests --follow --alert file:alarms.jsonl --alert webhook:https://host/hook
    """
    from sartor.console import display
    from sartor.flow.watch import Wanted, follow, watch
    from sartor.flow.watch_page import write

    wanted = Wanted(target, reference, since, maps, model, first, alpha)
    with display() as screen:
        if following:
            for found in follow(wanted, alerts=alerts, state=state, every=every, emit=screen.see):
                if report is not None:
                    write(report, found)
                show(found, as_json)
            return 0
        result = watch(wanted, alerts=alerts, state=state, emit=screen.see)
    if report is not None:
        write(report, result)
    return show(result, as_json)
